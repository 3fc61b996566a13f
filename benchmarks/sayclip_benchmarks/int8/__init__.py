"""What int8 costs and gains at full size: hard random weights, calibrated by the command, against fp32 and PyTorch."""
