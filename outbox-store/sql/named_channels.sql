-- What the payload of one event says about `channels`, as text, if that is no more than $2 bytes.
-- $1 the event.
SELECT octet_length(named.channels) AS bytes,
       CASE WHEN octet_length(named.channels) <= $2 THEN named.channels
       END AS "channels: Json<Box<RawValue>>"
FROM outbox_events e
CROSS JOIN LATERAL (SELECT (e.payload -> 'channels')::text AS channels OFFSET 0) AS named
WHERE e.id = $1
