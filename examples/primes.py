"""A type that computes for long: it runs in a process."""

from pydantic import BaseModel, Field

from app import Context, task


class Sieve(BaseModel):
    """Where to stop."""

    below: int = Field(ge=2, le=10_000_000)


@task("primes.count", process=True, timeout=60)
def count_primes(ctx: Context, sieve: Sieve) -> int:
    """Count the prime numbers below a number."""
    is_prime = bytearray([1]) * sieve.below
    for number in range(2, int(sieve.below**0.5) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = bytes(len(range(number * number, sieve.below, number)))
        ctx.progress(number / sieve.below**0.5)
    return sum(is_prime[2:])
