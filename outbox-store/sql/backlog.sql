-- What waits, per lane ('' is not routed yet).
SELECT channel,
       count(*) FILTER (WHERE due_at < 'infinity' AND worker IS NULL AND attempt = 0
                        AND due_at <= now()) AS "due!",
       count(*) FILTER (WHERE due_at < 'infinity' AND worker IS NULL AND attempt = 0
                        AND due_at > now()) AS "scheduled!",
       count(*) FILTER (WHERE due_at < 'infinity' AND worker IS NULL AND attempt > 0)
           AS "retrying!",
       count(*) FILTER (WHERE worker IS NOT NULL) AS "leased!",
       count(*) FILTER (WHERE due_at = 'infinity') AS "held!",
       extract(epoch FROM now() - min(due_at) FILTER (WHERE due_at <= now()))::float8
           AS oldest_due_seconds
FROM outbox_queue
GROUP BY channel ORDER BY channel
