"""The queue layer of Arqive beside other queues on Redis: one file a system, the same job, the same measurement."""
