-- `version` and `profile` (phone number, addresses and metadata as JSON) are columns of their own, so that a program
-- that knows `state` only does not remove them when it changes a customer.
ALTER TABLE customers ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE customers ADD COLUMN profile TEXT;

-- Name and e-mail address in lower case, for searches. NULL until they are computed: SQL changes the case of ASCII
-- letters only, so the program computes the other ones (store/maintenance/search_keys.rs).
ALTER TABLE customers ADD COLUMN name_key TEXT;
ALTER TABLE customers ADD COLUMN email_key TEXT;

UPDATE customers
SET name_key = lower(json_extract(state, '$.name')), email_key = lower(json_extract(state, '$.email'))
WHERE length(CAST(json_extract(state, '$.name') AS BLOB)) = length(json_extract(state, '$.name'))
  AND length(CAST(json_extract(state, '$.email') AS BLOB)) = length(json_extract(state, '$.email'));

CREATE INDEX customers_by_name ON customers (name_key, id);
CREATE INDEX customers_by_email ON customers (email_key, id);
CREATE INDEX customers_by_storefront_and_name ON customers (storefront, name_key, id);
CREATE INDEX customers_by_storefront_and_email ON customers (storefront, email_key, id);
CREATE INDEX customers_without_keys ON customers (id) WHERE email_key IS NULL;

-- A program that knows `state` only removes all personal data, too, when it erases a customer.
CREATE TRIGGER erase_customer AFTER UPDATE OF state ON customers
WHEN json_extract(NEW.state, '$.erased_at') IS NOT NULL
BEGIN
    UPDATE customers SET profile = NULL, name_key = '', email_key = '' WHERE id = NEW.id;
END;

-- Shipments by tracking number in lower case (ASCII), for searches. It is an index on events, so that it has the
-- shipments of all versions of the program, and costs orders without shipments nothing.
CREATE INDEX shipments_by_tracking_number ON events (
    CASE WHEN json_valid(data) THEN lower(coalesce(json_extract(data, '$.shipment.tracking_number'),
                                                   json_extract(data, '$.tracking_number'))) END,
    subject
) WHERE type IN ('shipment.created', 'shipment.shipped');
