"""Age of young men from 3-D knee MRI: years from coronal T1 volumes, mean absolute error."""
