-- A frame that is larger than a page went to TOAST, whose pieces of 2 KB are written, indexed, found and deleted one by one. It is cut
-- into parts that a page holds, and they stay in their rows.
ALTER TABLE ledger.content ADD COLUMN part int NOT NULL DEFAULT 0;
ALTER TABLE ledger.content DROP CONSTRAINT content_pkey;
ALTER TABLE ledger.content ADD PRIMARY KEY (message_id, frame_no, part);
-- Neither compressed nor moved out; a part that does not fit into a page is an error.
ALTER TABLE ledger.content ALTER COLUMN sealed SET STORAGE PLAIN;
GRANT INSERT (part) ON ledger.content TO zegel_edge;
