"""A release, or a folder of repositories to push to, over the Hub's own protocol on this machine."""
