"""The process: driver, supervisor, settings, store, gRPC services, systemd, metrics."""
