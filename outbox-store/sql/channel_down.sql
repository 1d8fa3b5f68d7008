-- Channel $1 cannot deliver: nobody claims for it for $2 seconds. $3 why. When several workers
-- find out at once, one failure is counted: the others come while it is already down.
UPDATE outbox_channels
SET down_since = coalesce(down_since, now()),
    down_until = now() + $2::float8 * interval '1 second',
    failures = failures + 1,
    last_error = $3
WHERE name = $1 AND (down_until IS NULL OR down_until <= now())
