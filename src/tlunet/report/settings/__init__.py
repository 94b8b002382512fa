"""What a report says of a comparison of settings: answer and figures."""
