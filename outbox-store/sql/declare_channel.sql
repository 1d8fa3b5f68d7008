-- Makes a configured channel known to all: $1 name, $2 kind, $3 its max_retries.
INSERT INTO outbox_channels (name, kind, max_retries) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, max_retries = excluded.max_retries
WHERE (outbox_channels.kind, outbox_channels.max_retries)
      IS DISTINCT FROM (excluded.kind, excluded.max_retries)
