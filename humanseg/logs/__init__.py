"""What a run writes while it trains: its folder, TensorBoard, the terminal's lines."""
