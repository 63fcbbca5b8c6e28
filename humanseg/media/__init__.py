"""What is read and written: photographs, videos, a camera, a live page."""
