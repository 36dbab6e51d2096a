"""What first_gpu.py runs on a GPU that is at hand for minutes: stages, and what starts, times and records them."""
