SELECT status AS "status!", count(*) AS "count!"
FROM outbox_event_status GROUP BY status ORDER BY status
