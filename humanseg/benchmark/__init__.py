"""What ``mode=benchmark`` measures; a part a module, each a function that returns figures."""
