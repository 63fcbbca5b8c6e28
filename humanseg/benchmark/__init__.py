"""What ``mode=benchmark`` measures. Each part is a module with a function that returns figures."""
