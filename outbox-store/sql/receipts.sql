-- What providers have reported, per channel and status.
SELECT channel, status, count(*) AS "count!"
FROM outbox_receipts GROUP BY channel, status ORDER BY channel, status
