SELECT name, kind, paused_at, down_since, down_until, failures, last_error,
       (paused_at IS NOT NULL OR coalesce(down_until > now(), false)) AS "closed!"
FROM outbox_channels ORDER BY name
