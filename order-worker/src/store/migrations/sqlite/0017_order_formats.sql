-- States begin with their format since this version. A program that knows no formats would remove the parts of an order
-- that it does not know (edits, returns, notes, tags and others) when it changes the order: it can't replace a state of
-- format 1.
CREATE TRIGGER keep_order_format BEFORE UPDATE OF state ON orders
WHEN substr(OLD.state, 1, 11) = '{"format":1' AND NEW.state NOT LIKE '{"format":%'
BEGIN
    SELECT CASE WHEN json_extract(NEW.state, '$.format') IS NULL
        THEN RAISE(ABORT, 'the order has parts that this version of order-worker does not know; upgrade order-worker')
    END;
END;
