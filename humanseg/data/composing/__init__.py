"""People put onto other photographs: cut out, placed, lit and pasted."""
