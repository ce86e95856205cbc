"""Board profiles and attachable parts as data: see README.md beside this file."""
