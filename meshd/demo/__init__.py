"""`meshd demo`: real daemons on this machine, a real model, an owner killed in mid-stream."""
