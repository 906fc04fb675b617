"""What the daemon serves over gRPC: admin for `meshctl`, the Open Inference Protocol for everybody else."""
