"""Task modules as somebody who comes from arq, Celery or BullMQ would write them."""
