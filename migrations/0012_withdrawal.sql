-- A message of several deliveries one of which had been claimed and had ended was taken back for the others: the row that told of the
-- claim was gone. What was delivered cannot be taken back, so what has an end stands.
CREATE OR REPLACE FUNCTION ledger.withdraw(ids uuid[], event_ids uuid[]) RETURNS SETOF uuid LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    one uuid; event_id uuid; of_tenant text;
BEGIN
    FOR one, event_id IN SELECT i, e FROM unnest(ids, event_ids) AS n(i, e) ORDER BY i LOOP
        PERFORM 1 FROM ledger.delivery WHERE message_id = one ORDER BY no FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        CONTINUE WHEN EXISTS (SELECT 1 FROM ledger.delivery WHERE message_id = one AND (fence > 0 OR state <> 'ready'));
        CONTINUE WHEN EXISTS (SELECT 1 FROM ledger.message WHERE id = one AND open_deliveries <> deliveries);
        PERFORM 1 FROM ledger.replay WHERE message_id = one FOR UPDATE;
        CONTINUE WHEN EXISTS (SELECT 1 FROM ledger.replay WHERE message_id = one AND replayed_at IS NOT NULL);
        DELETE FROM ledger.replay WHERE message_id = one;
        DELETE FROM ledger.delivery WHERE message_id = one;
        DELETE FROM ledger.content WHERE message_id = one;
        UPDATE ledger.recipient SET state = 'withdrawn' WHERE message_id = one;
        UPDATE ledger.message SET withdrawn_at = clock_timestamp(), open_deliveries = 0, wrapped_message_key = NULL
            WHERE id = one RETURNING tenant INTO of_tenant;
        INSERT INTO ledger.event (id, tenant, message_id, kind, at)
            VALUES (event_id, of_tenant, one, 'withdrawn', clock_timestamp());
        RETURN NEXT one;
    END LOOP;
END $$;
