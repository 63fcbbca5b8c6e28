"""From photographs and frames to drawings of the people in them."""
