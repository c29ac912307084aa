-- `version` and `profile` (phone number, addresses and metadata as JSON) are columns of their own, so that a program
-- that knows `state` only does not remove them when it changes a customer.
--
-- Name and e-mail address in lower case, for searches. NULL until they are computed: SQL changes the case of other
-- letters than ASCII by rules that depend on the database, so the program computes them
-- (store/maintenance/search_keys.rs).
ALTER TABLE customers
    ADD COLUMN version   BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN profile   TEXT,
    ADD COLUMN name_key  TEXT COLLATE "C",
    ADD COLUMN email_key TEXT COLLATE "C";

-- A program that knows `state` only removes all personal data, too, when it erases a customer.
CREATE FUNCTION erase_customer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.profile := NULL;
    NEW.name_key := '';
    NEW.email_key := '';
    RETURN NEW;
END
$$;

CREATE TRIGGER erase_customer BEFORE UPDATE OF state ON customers
FOR EACH ROW WHEN (NEW.state::json ->> 'erased_at' IS NOT NULL)
EXECUTE FUNCTION erase_customer();
