-- The events of leased rows, as their deliveries begin with them. $1 and $2 the first and the last
-- of each run of consecutive ids: rows that were written together are read together, and not looked
-- up one by one.
SELECT e.id,
       e.event_type,
       -- One byte more than 32 kB says that there is more: stored, 1e99999 takes a few bytes only.
       CASE WHEN e.is_small THEN substring(jsonb_send(e.payload) FOR 32770)
       END           AS "payload?: Excerpt",
       -- Nearly always {}, which takes no more than 8 bytes, and is not sent.
       CASE WHEN pg_column_size(e.headers) > 8 AND e.is_small
            THEN substring(jsonb_send(e.headers) FOR 32770)
       END           AS "headers?: Excerpt",
       CASE WHEN NOT e.is_small THEN pg_column_size(e.payload) + pg_column_size(e.headers)
       END           AS "stored_bytes?",
       e.key,
       e.max_retries,
       e.expires_at,
       e.created_at
FROM unnest($1::bigint[], $2::bigint[]) AS run (first, last)
CROSS JOIN LATERAL (
    -- What is large is left behind (contents.sql), without being looked into: stored in more than
    -- 32 kB, or than 4 kB where that is compressed, perhaps to a hundredth.
    SELECT e.*,
           pg_column_size(e.payload) + pg_column_size(e.headers) <= 4096
           OR pg_column_size(e.payload) + pg_column_size(e.headers) <= 32768
              AND coalesce(pg_column_compression(e.payload),
                           pg_column_compression(e.headers)) IS NULL AS is_small
    FROM outbox_events e
    WHERE e.id BETWEEN run.first AND run.last
) e
