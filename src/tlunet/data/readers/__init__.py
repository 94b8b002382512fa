"""List the images of a data set on disk: Severstal, NEU-Seg, or a user's folder."""
