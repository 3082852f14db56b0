"""Processes that one command starts: local servers, web and worker for `dev`, several of one role."""
