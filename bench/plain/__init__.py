"""What many people would write first: aiohttp, stock arq and one Motor write for each step."""
