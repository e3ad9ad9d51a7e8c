-- Replays over shards. A tag stays when its client has shown that it has the 250: an edge that stood still with an earlier try of the
-- same bytes finds it, and marks what it takes. Workers ask other shards for a message's tags before its first attempt.
ALTER TABLE ledger.replay
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN previous_tag bytea CHECK (octet_length(previous_tag) = 32);   -- under yesterday's key, in the hours after midnight
CREATE INDEX replay_previous ON ledger.replay (previous_tag) WHERE previous_tag IS NOT NULL;
GRANT INSERT (previous_tag) ON ledger.replay TO zegel_edge;
GRANT INSERT (possible_duplicate) ON ledger.delivery TO zegel_edge;

ALTER TABLE ledger.recipient DROP CONSTRAINT recipient_state_check;
ALTER TABLE ledger.recipient ADD CONSTRAINT recipient_state_check
    CHECK (state IN ('open', 'held', 'delivered', 'refused', 'bounced', 'expired', 'cancelled', 'withdrawn', 'duplicate'));

-- The clients sent something after their 250: they have it, so the same bytes again are a new message.
DROP FUNCTION ledger.forget_tags;
CREATE FUNCTION ledger.acknowledge_tags(tags bytea[]) RETURNS void LANGUAGE sql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    UPDATE ledger.replay SET acknowledged_at = clock_timestamp() WHERE tag = ANY (tags) AND acknowledged_at IS NULL
$$;

-- The same bytes and envelope again: answers the first one's id, and makes it stand; no id where its client has shown that it has the
-- 250. No row: there is none (any more).
DROP FUNCTION ledger.replay_of;
CREATE FUNCTION ledger.replay_of(of_tag bytea) RETURNS TABLE (first uuid) LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
BEGIN
    RETURN QUERY UPDATE ledger.replay SET replayed_at = clock_timestamp() WHERE tag = of_tag AND acknowledged_at IS NULL
        RETURNING message_id;
    IF NOT FOUND THEN
        RETURN QUERY SELECT NULL::uuid FROM ledger.replay WHERE tag = of_tag AND acknowledged_at IS NOT NULL;
    END IF;
END $$;
REVOKE ALL ON FUNCTION ledger.acknowledge_tags, ledger.replay_of FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.acknowledge_tags, ledger.replay_of TO zegel_edge;

-- A worker reads no tags but those of the messages that it names, and asks other shards by tag.

-- The tags of messages: today's, and yesterday's in the hours after midnight.
CREATE FUNCTION ledger.replay_tags(ids uuid[]) RETURNS TABLE (id uuid, tag bytea, previous_tag bytea) LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    SELECT r.message_id, r.tag, r.previous_tag FROM ledger.replay r WHERE r.message_id = ANY (ids)
$$;

-- Who holds these tags, has its client shown that it has the 250, and has anybody claimed it? A delivery that has ended was claimed, and
-- its row is gone.
CREATE FUNCTION ledger.replay_holders(tags bytea[])
    RETURNS TABLE (tag bytea, id uuid, is_acknowledged boolean, was_claimed boolean) LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    SELECT t.tag, r.message_id, r.acknowledged_at IS NOT NULL,
           coalesce(m.deliveries, 0)
               <> (SELECT count(*) FROM ledger.delivery d WHERE d.message_id = r.message_id AND d.fence = 0)
    FROM unnest(tags) AS t (tag)
    CROSS JOIN LATERAL (
        SELECT r.message_id, r.acknowledged_at FROM ledger.replay r WHERE r.tag = t.tag
        UNION SELECT r.message_id, r.acknowledged_at FROM ledger.replay r WHERE r.previous_tag = t.tag) r
    LEFT JOIN ledger.message m ON m.id = r.message_id
$$;

-- Makes messages stand, since replays in other shards rely on them: those that still have their tag, and so are not withdrawn. In the
-- order of their tags, as others may lock several of them too.
CREATE FUNCTION ledger.rely_on_replays(ids uuid[]) RETURNS SETOF uuid LANGUAGE sql
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    WITH held AS (SELECT tag FROM ledger.replay WHERE message_id = ANY (ids) ORDER BY tag FOR UPDATE)
    UPDATE ledger.replay r SET replayed_at = clock_timestamp() FROM held WHERE r.tag = held.tag RETURNING r.message_id
$$;

-- Which of these tags does a member know?
CREATE FUNCTION ledger.known_replays(tags bytea[]) RETURNS SETOF bytea LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    SELECT t FROM unnest(tags) AS n (t)
    WHERE EXISTS (SELECT 1 FROM ledger.replay r WHERE r.tag = t OR r.previous_tag = t)
$$;
REVOKE ALL ON FUNCTION ledger.replay_tags, ledger.replay_holders, ledger.rely_on_replays, ledger.known_replays FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ledger.replay_tags, ledger.replay_holders, ledger.rely_on_replays, ledger.known_replays TO zegel_worker;

-- Tags and their keys past the window (a day that began more than 48 hours ago). Ids begin with the moment of acceptance, and they have
-- an index.
CREATE OR REPLACE FUNCTION ledger.forget_old_tags(at_most int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    gone int;
    bound uuid := (lpad(to_hex((extract(epoch FROM clock_timestamp() - interval '48 hours') * 1000)::bigint), 12, '0')
        || '00000000000000000000')::uuid;
BEGIN
    DELETE FROM ledger.replay WHERE tag IN (
        SELECT tag FROM ledger.replay WHERE message_id < bound ORDER BY message_id LIMIT at_most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    DELETE FROM control.replay_key WHERE day < (now() AT TIME ZONE 'UTC')::date - 1;
    RETURN gone;
END $$;
