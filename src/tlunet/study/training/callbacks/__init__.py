"""Lightning callbacks for training and testing a cell."""
