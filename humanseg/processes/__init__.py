"""The processes of a run and the machine they run on. Nothing here imports another part of humanseg."""
