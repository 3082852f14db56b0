"""Following tasks while they run: with the client, and with aiohttp alone."""
