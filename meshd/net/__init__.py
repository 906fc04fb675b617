"""Sockets: sealed gossip datagrams, mDNS, framed links over mutual TLS, and the seam between trio and threads."""
