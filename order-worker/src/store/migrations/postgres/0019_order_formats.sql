-- States begin with their format since this version. A program that knows no formats would remove the parts of an order
-- that it does not know (edits, returns, notes, tags and others) when it changes the order: it can't replace a state of
-- format 1.
CREATE FUNCTION keep_order_format() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state::json ->> 'format' IS NULL THEN
        RAISE EXCEPTION 'the order has parts that this version of order-worker does not know; upgrade order-worker';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER keep_order_format BEFORE UPDATE OF state ON orders
FOR EACH ROW WHEN (left(OLD.state, 11) = '{"format":1' AND left(NEW.state, 10) <> '{"format":')
EXECUTE FUNCTION keep_order_format();
