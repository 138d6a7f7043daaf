"""What can be asked of Thresher, whoever asks: the API and the pages do the same by the same functions."""
