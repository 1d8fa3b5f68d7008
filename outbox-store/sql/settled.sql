-- What is settled and not yet pruned, per channel and status.
SELECT channel, status, count(*) AS "count!"
FROM outbox_deliveries GROUP BY channel, status ORDER BY channel, status
