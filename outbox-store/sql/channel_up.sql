UPDATE outbox_channels
SET down_since = NULL, down_until = NULL, failures = 0
WHERE name = $1 AND down_since IS NOT NULL
