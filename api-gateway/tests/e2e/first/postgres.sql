SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA sandbox;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
CREATE TABLE public.customers (
    id text NOT NULL COLLATE pg_catalog."C",
    storefront text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL
);
CREATE TABLE public.dead_letters (
    id text NOT NULL COLLATE pg_catalog."C",
    received_at bigint NOT NULL,
    queue text NOT NULL,
    reason text NOT NULL,
    message text NOT NULL
);
CREATE TABLE public.events (
    "position" bigint NOT NULL,
    id text NOT NULL,
    subject text NOT NULL COLLATE pg_catalog."C",
    sequence bigint NOT NULL,
    "time" bigint NOT NULL,
    storefront text,
    type text NOT NULL COLLATE pg_catalog."C",
    actor text NOT NULL,
    intent text NOT NULL,
    request_id text NOT NULL,
    attempt bigint,
    data text NOT NULL
);
CREATE TABLE public.feed (
    name text NOT NULL,
    "position" bigint NOT NULL
)
WITH (fillfactor='10');
CREATE TABLE public.idempotency (
    key text NOT NULL COLLATE pg_catalog."C",
    fingerprint text NOT NULL,
    answer text,
    outcome text,
    expires_at bigint NOT NULL
);
CREATE TABLE public.order_items (
    sku text NOT NULL COLLATE pg_catalog."C",
    created_at bigint NOT NULL,
    number bigint NOT NULL
);
CREATE SEQUENCE public.order_numbers
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE public.orders (
    number bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    storefront text NOT NULL COLLATE pg_catalog."C",
    customer_id text NOT NULL COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    is_deleted boolean NOT NULL,
    created_at bigint NOT NULL,
    state text NOT NULL
);
CREATE TABLE public.products (
    sku text NOT NULL COLLATE pg_catalog."C",
    is_deleted boolean NOT NULL,
    state text NOT NULL
);
CREATE TABLE public.relay (
    name text NOT NULL,
    "position" bigint NOT NULL
)
WITH (fillfactor='10');
CREATE TABLE public.shelves (
    sku text NOT NULL COLLATE pg_catalog."C",
    warehouse text NOT NULL COLLATE pg_catalog."C",
    on_hand bigint NOT NULL,
    reserved bigint NOT NULL,
    CONSTRAINT shelves_check CHECK (((0 <= reserved) AND (reserved <= on_hand)))
)
WITH (fillfactor='50');
CREATE TABLE public.steps (
    order_id text NOT NULL COLLATE pg_catalog."C",
    step text NOT NULL COLLATE pg_catalog."C",
    attempt bigint NOT NULL,
    failures bigint NOT NULL,
    due_at bigint NOT NULL,
    publish_at bigint,
    last_error text,
    request_id text NOT NULL,
    put_at bigint DEFAULT 0 NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000', autovacuum_vacuum_cost_delay='0');
CREATE TABLE sandbox.movements (
    id bigint NOT NULL,
    payment text NOT NULL,
    kind text NOT NULL,
    amount bigint NOT NULL
);
ALTER TABLE sandbox.movements ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME sandbox.movements_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE sandbox.parcels (
    key text NOT NULL COLLATE pg_catalog."C",
    order_id text NOT NULL,
    tracking_number text NOT NULL,
    is_cancelled boolean DEFAULT false NOT NULL,
    stage bigint DEFAULT 0 NOT NULL,
    next_at bigint
);
CREATE TABLE sandbox.payments (
    key text NOT NULL COLLATE pg_catalog."C",
    reference text NOT NULL,
    status text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    captured bigint DEFAULT 0 NOT NULL,
    refunded bigint DEFAULT 0 NOT NULL,
    calls bigint DEFAULT 0 NOT NULL
);
INSERT INTO public._sqlx_migrations VALUES (1, 'initial', '2026-11-21 23:44:36.686278+00', true, '\x82949c1d964a38b482ca4566443719e7a6ea9645b2faa9291ad347d4c59fb0cbb9f5f8485328a10826be4f6498d57484', 40935558);
INSERT INTO public.customers VALUES ('01a2007f-5dd8-7001-b753-ddba805f4c85', 'default', '{"id":"01a2007f-5dd8-7001-b753-ddba805f4c85","name":"Ada","email":"ada@example.com","storefront":"default","is_blocked":false,"created_at":"2026-11-21T23:44:36.824Z"}');
INSERT INTO public.customers VALUES ('01a2007f-5ddd-7001-ac06-4863abc51323', 'default', '{"id":"01a2007f-5ddd-7001-ac06-4863abc51323","name":"Bob","email":"bob@example.com","storefront":"default","is_blocked":true,"created_at":"2026-11-21T23:44:36.829Z"}');
INSERT INTO public.events VALUES (1, '01a2007f-5dad-7001-be9c-eee14bc7dee1', 'mug', 1, 1795304676781, NULL, 'product.created', 'local', 'product.create', '01a2007f-5dac-7437-9b4e-30d76f1df373', NULL, '{"product":{"currency":"EUR","image_urls":[],"name":"A mug","price":1250,"sku":"mug"}}');
INSERT INTO public.events VALUES (2, '01a2007f-5dbc-7001-b0e5-4bcef10cb6fd', 'tee', 1, 1795304676796, NULL, 'product.created', 'local', 'product.create', '01a2007f-5dbb-770c-8575-316c9612c107', NULL, '{"product":{"currency":"EUR","image_urls":[],"name":"A tee","price":1999,"sku":"tee"}}');
INSERT INTO public.events VALUES (3, '01a2007f-5dc3-7001-abee-60dd7d34c2bb', 'mug', 2, 1795304676803, NULL, 'stock.adjusted', 'local', 'stock.set', '01a2007f-5dc2-7382-92f2-df7b4e94c70b', NULL, '{"on_hand":100,"sku":"mug","warehouse":"berlin"}');
INSERT INTO public.events VALUES (4, '01a2007f-5dcb-7001-84f2-e72267e9dace', 'tee', 2, 1795304676811, NULL, 'stock.adjusted', 'local', 'stock.set', '01a2007f-5dc9-7718-9445-171935382bdc', NULL, '{"on_hand":5,"sku":"tee","warehouse":"berlin"}');
INSERT INTO public.events VALUES (5, '01a2007f-5dd2-7001-b948-9d91b3c19e2d', 'tee', 3, 1795304676818, NULL, 'stock.adjusted', 'local', 'stock.set', '01a2007f-5dd0-76da-b5e0-34093eabb730', NULL, '{"on_hand":5,"sku":"tee","warehouse":"paris"}');
INSERT INTO public.events VALUES (6, '01a2007f-5de2-7002-bbe0-b0c715f38d59', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 1, 1795304676834, 'default', 'order.created', 'local', 'order.create', '01a2007f-5de1-707d-852b-9085cd64e9eb', NULL, '{"currency":"EUR","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"items":[{"name":"A mug","quantity":2,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{"a":1},"number":1,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":{"city":"Berlin","country":"DE","line1":"1 Street","name":"Ada","postal_code":"1"},"storefront":"default","total":2500}');
INSERT INTO public.events VALUES (7, '01a2007f-5de2-7003-bff4-2bff77ac6a96', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 2, 1795304676834, 'default', 'stock.reserved', 'local', 'order.create', '01a2007f-5de1-707d-852b-9085cd64e9eb', NULL, '{"items":[{"quantity":2,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.events VALUES (8, '01a2007f-5dfa-7001-8a0d-522ecdbedd03', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 3, 1795304676858, 'default', 'payment.authorized', 'worker', 'authorize_payment', '01a2007f-5de1-707d-852b-9085cd64e9eb', 1, '{"amount":2500,"provider":"sandbox","reference":"sandbox_01a2007f5df77588b838a30efc1364c6"}');
INSERT INTO public.events VALUES (9, '01a2007f-5dfa-7002-a138-3b165a3d72b4', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 4, 1795304676858, 'default', 'order.processing', 'worker', 'authorize_payment', '01a2007f-5de1-707d-852b-9085cd64e9eb', 1, '{}');
INSERT INTO public.events VALUES (10, '01a2007f-5e03-7002-80c9-01f996e84562', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 5, 1795304676867, 'default', 'shipment.created', 'worker', 'request_shipment', '01a2007f-5de1-707d-852b-9085cd64e9eb', 1, '{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-5e03-7001-a6cc-c9e9667d2740","items":[{"quantity":2,"sku":"mug","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX73278BA9DFCE1E972C24"}}');
INSERT INTO public.events VALUES (11, '01a2007f-5e5f-7001-a1ea-1cd6692e5052', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 6, 1795304676959, 'default', 'shipment.shipped', 'shipper', 'shipment.update', '01a2007f-5e5e-70f7-bda5-208150908945', NULL, '{"carrier":"DHL","items":[{"quantity":2,"sku":"mug","warehouse":"berlin"}],"shipment_id":"01a2007f-5e03-7001-a6cc-c9e9667d2740","tracking_number":"SBX73278BA9DFCE1E972C24"}');
INSERT INTO public.events VALUES (12, '01a2007f-5e5f-7002-9c34-edb88f0c2a5e', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 7, 1795304676959, 'default', 'order.shipped', 'shipper', 'shipment.update', '01a2007f-5e5e-70f7-bda5-208150908945', NULL, '{}');
INSERT INTO public.events VALUES (13, '01a2007f-5e6c-7001-bc37-ec95fcc25fb9', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 8, 1795304676972, 'default', 'payment.captured', 'worker', 'capture_payment', '01a2007f-5e5e-70f7-bda5-208150908945', 1, '{"amount":2500}');
INSERT INTO public.events VALUES (14, '01a2007f-5eda-7001-8797-7231dd587668', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 9, 1795304677082, 'default', 'shipment.delivered', 'shipper', 'shipment.update', '01a2007f-5ed9-7017-a046-5cc6eba7c8e4', NULL, '{"shipment_id":"01a2007f-5e03-7001-a6cc-c9e9667d2740"}');
INSERT INTO public.events VALUES (15, '01a2007f-5eda-7002-a12a-b9b84e8e710b', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 10, 1795304677082, 'default', 'order.delivered', 'shipper', 'shipment.update', '01a2007f-5ed9-7017-a046-5cc6eba7c8e4', NULL, '{}');
INSERT INTO public.events VALUES (16, '01a2007f-5ee5-7002-90ec-612b533ebb9d', '01a2007f-5ee5-7001-997f-f910d74c62a8', 1, 1795304677093, 'default', 'order.created', 'local', 'order.create', '01a2007f-5ee4-70bf-b5ba-cad8470da657', NULL, '{"currency":"EUR","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":2,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO public.events VALUES (17, '01a2007f-5ee5-7003-a00c-d6399b3b7910', '01a2007f-5ee5-7001-997f-f910d74c62a8', 2, 1795304677093, 'default', 'stock.reserved', 'local', 'order.create', '01a2007f-5ee4-70bf-b5ba-cad8470da657', NULL, '{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.events VALUES (18, '01a2007f-5eee-7001-9844-90c4e015f100', '01a2007f-5ee5-7001-997f-f910d74c62a8', 3, 1795304677102, 'default', 'payment.authorized', 'worker', 'authorize_payment', '01a2007f-5ee4-70bf-b5ba-cad8470da657', 1, '{"amount":1250,"provider":"sandbox","reference":"sandbox_01a2007f5eed70aeb708c7a2a3c31773"}');
INSERT INTO public.events VALUES (19, '01a2007f-5eee-7002-8673-3802df453fb1', '01a2007f-5ee5-7001-997f-f910d74c62a8', 4, 1795304677102, 'default', 'order.processing', 'worker', 'authorize_payment', '01a2007f-5ee4-70bf-b5ba-cad8470da657', 1, '{}');
INSERT INTO public.events VALUES (20, '01a2007f-5ef6-7002-bca4-65a472a44cc2', '01a2007f-5ee5-7001-997f-f910d74c62a8', 5, 1795304677110, 'default', 'shipment.created', 'worker', 'request_shipment', '01a2007f-5ee4-70bf-b5ba-cad8470da657', 1, '{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-5ef6-7001-bfca-521496a7bde0","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX71D1BF5A76DF41EC3929"}}');
INSERT INTO public.events VALUES (21, '01a2007f-5f5d-7001-8a69-852aedb7734f', '01a2007f-5ee5-7001-997f-f910d74c62a8', 6, 1795304677213, 'default', 'shipment.shipped', 'shipper', 'shipment.update', '01a2007f-5f5c-7115-8db3-26032d058430', NULL, '{"carrier":"DHL","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}],"shipment_id":"01a2007f-5ef6-7001-bfca-521496a7bde0","tracking_number":"SBX71D1BF5A76DF41EC3929"}');
INSERT INTO public.events VALUES (22, '01a2007f-5f5d-7002-8053-4d02ec93806a', '01a2007f-5ee5-7001-997f-f910d74c62a8', 7, 1795304677213, 'default', 'order.shipped', 'shipper', 'shipment.update', '01a2007f-5f5c-7115-8db3-26032d058430', NULL, '{}');
INSERT INTO public.events VALUES (23, '01a2007f-5f68-7001-9217-ea5230c71474', '01a2007f-5ee5-7001-997f-f910d74c62a8', 8, 1795304677224, 'default', 'payment.captured', 'worker', 'capture_payment', '01a2007f-5f5c-7115-8db3-26032d058430', 1, '{"amount":1250}');
INSERT INTO public.events VALUES (24, '01a2007f-67a8-7002-886b-44c4a87fe315', '01a2007f-67a8-7001-9ae2-3f14136475a1', 1, 1795304679336, 'default', 'order.created', 'local', 'order.create', '01a2007f-67a7-75b2-9a57-d41fa05c5daa', NULL, '{"currency":"EUR","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"},{"name":"A tee","quantity":5,"sku":"tee","unit_price":1999,"warehouse":"berlin"},{"name":"A tee","quantity":1,"sku":"tee","unit_price":1999,"warehouse":"paris"}],"metadata":{},"number":3,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":13244}');
INSERT INTO public.events VALUES (25, '01a2007f-67a8-7003-8fb7-80f62c02c8d9', '01a2007f-67a8-7001-9ae2-3f14136475a1', 2, 1795304679336, 'default', 'stock.reserved', 'local', 'order.create', '01a2007f-67a7-75b2-9a57-d41fa05c5daa', NULL, '{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"},{"quantity":5,"sku":"tee","warehouse":"berlin"},{"quantity":1,"sku":"tee","warehouse":"paris"}]}');
INSERT INTO public.events VALUES (26, '01a2007f-67b0-7001-892a-c2197e4abbc9', '01a2007f-67a8-7001-9ae2-3f14136475a1', 3, 1795304679344, 'default', 'payment.authorized', 'worker', 'authorize_payment', '01a2007f-67a7-75b2-9a57-d41fa05c5daa', 1, '{"amount":13244,"provider":"sandbox","reference":"sandbox_01a2007f67af7114bfca6c1309e18fa5"}');
INSERT INTO public.events VALUES (27, '01a2007f-67b0-7002-b166-c7e411887ab9', '01a2007f-67a8-7001-9ae2-3f14136475a1', 4, 1795304679344, 'default', 'order.processing', 'worker', 'authorize_payment', '01a2007f-67a7-75b2-9a57-d41fa05c5daa', 1, '{}');
INSERT INTO public.events VALUES (28, '01a2007f-67b6-7002-80a2-104ab3f34ac0', '01a2007f-67a8-7001-9ae2-3f14136475a1', 5, 1795304679350, 'default', 'shipment.created', 'worker', 'request_shipment', '01a2007f-67a7-75b2-9a57-d41fa05c5daa', 1, '{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-67b6-7001-855f-679546b00598","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"},{"quantity":5,"sku":"tee","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX75D286382F33C76016A2"}}');
INSERT INTO public.events VALUES (29, '01a2007f-67bd-7002-aa28-3a4df6513981', '01a2007f-67a8-7001-9ae2-3f14136475a1', 6, 1795304679357, 'default', 'shipment.created', 'worker', 'request_shipment', '01a2007f-67a7-75b2-9a57-d41fa05c5daa', 1, '{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-67bd-7001-87b3-8466ce2e367d","items":[{"quantity":1,"sku":"tee","warehouse":"paris"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX7757B537338CBF381647"}}');
INSERT INTO public.events VALUES (30, '01a2007f-6c07-7002-b430-b4b0d931c4a7', '01a2007f-6c07-7001-8f63-54c4f0a251e5', 1, 1795304680455, 'default', 'order.created', 'local', 'order.create', '01a2007f-6c05-703a-b137-69d4d9253ee0', NULL, '{"currency":"EUR","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":4,"payment_method":"pm_declined","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO public.events VALUES (31, '01a2007f-6c07-7003-8178-8ee7ebae3f18', '01a2007f-6c07-7001-8f63-54c4f0a251e5', 2, 1795304680455, 'default', 'stock.reserved', 'local', 'order.create', '01a2007f-6c05-703a-b137-69d4d9253ee0', NULL, '{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.events VALUES (32, '01a2007f-6c10-7001-ab8e-35e491f91c9f', '01a2007f-6c07-7001-8f63-54c4f0a251e5', 3, 1795304680464, 'default', 'payment.declined', 'worker', 'authorize_payment', '01a2007f-6c05-703a-b137-69d4d9253ee0', 1, '{"code":"card_declined","message":"the card was declined"}');
INSERT INTO public.events VALUES (33, '01a2007f-6c10-7002-88e6-e48ada1d9f0e', '01a2007f-6c07-7001-8f63-54c4f0a251e5', 4, 1795304680464, 'default', 'order.cancelled', 'worker', 'authorize_payment', '01a2007f-6c05-703a-b137-69d4d9253ee0', 1, '{"note":"the card was declined","reason":"payment_declined"}');
INSERT INTO public.events VALUES (34, '01a2007f-6c10-7003-8f55-a4b208a3b71e', '01a2007f-6c07-7001-8f63-54c4f0a251e5', 5, 1795304680464, 'default', 'stock.released', 'worker', 'authorize_payment', '01a2007f-6c05-703a-b137-69d4d9253ee0', 1, '{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.events VALUES (35, '01a2007f-6c81-7002-8792-9e42a2df5032', '01a2007f-6c81-7001-be80-5abf7991854a', 1, 1795304680577, 'default', 'order.created', 'local', 'order.create', '01a2007f-6c7f-77de-95d4-34cb231c83e3', NULL, '{"currency":"EUR","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":5,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO public.events VALUES (36, '01a2007f-6c81-7003-a581-9e9256b69f9f', '01a2007f-6c81-7001-be80-5abf7991854a', 2, 1795304680577, 'default', 'stock.reserved', 'local', 'order.create', '01a2007f-6c7f-77de-95d4-34cb231c83e3', NULL, '{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.events VALUES (37, '01a2007f-6c8e-7001-b621-53210dfe76c7', '01a2007f-6c81-7001-be80-5abf7991854a', 3, 1795304680590, 'default', 'payment.authorized', 'worker', 'authorize_payment', '01a2007f-6c7f-77de-95d4-34cb231c83e3', 1, '{"amount":1250,"provider":"sandbox","reference":"sandbox_01a2007f6c8c77d79c0974a52b6381c3"}');
INSERT INTO public.events VALUES (38, '01a2007f-6c8e-7002-a195-9fa90b234a08', '01a2007f-6c81-7001-be80-5abf7991854a', 4, 1795304680590, 'default', 'order.processing', 'worker', 'authorize_payment', '01a2007f-6c7f-77de-95d4-34cb231c83e3', 1, '{}');
INSERT INTO public.events VALUES (39, '01a2007f-6c95-7002-a442-c47d5429471d', '01a2007f-6c81-7001-be80-5abf7991854a', 5, 1795304680597, 'default', 'shipment.created', 'worker', 'request_shipment', '01a2007f-6c7f-77de-95d4-34cb231c83e3', 1, '{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-6c95-7001-b2b5-e238d5715f2d","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX700B8F14A2F23CE33902"}}');
INSERT INTO public.events VALUES (40, '01a2007f-6cfb-7001-ad76-ef4c5af3fe7a', '01a2007f-6c81-7001-be80-5abf7991854a', 6, 1795304680699, 'default', 'order.cancelled', 'local', 'order.cancel', '01a2007f-6cf9-77b9-9778-b42f474582cb', NULL, '{"note":"x","reason":"operator_request"}');
INSERT INTO public.events VALUES (41, '01a2007f-6cfb-7002-8337-1dc89627cf85', '01a2007f-6c81-7001-be80-5abf7991854a', 7, 1795304680699, 'default', 'stock.released', 'local', 'order.cancel', '01a2007f-6cf9-77b9-9778-b42f474582cb', NULL, '{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.events VALUES (42, '01a2007f-6cfb-7003-b732-6b9f48ec23c0', '01a2007f-6c81-7001-be80-5abf7991854a', 8, 1795304680699, 'default', 'shipment.cancelled', 'local', 'order.cancel', '01a2007f-6cf9-77b9-9778-b42f474582cb', NULL, '{"shipment_id":"01a2007f-6c95-7001-b2b5-e238d5715f2d"}');
INSERT INTO public.events VALUES (43, '01a2007f-6d0d-7001-ade6-393934d3d3bd', '01a2007f-6c81-7001-be80-5abf7991854a', 9, 1795304680717, 'default', 'payment.voided', 'worker', 'void_payment', '01a2007f-6cf9-77b9-9778-b42f474582cb', 1, '{"reference":"sandbox_01a2007f6c8c77d79c0974a52b6381c3"}');
INSERT INTO public.events VALUES (44, '01a2007f-6d7a-7002-bf68-99f44dd7c37e', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 1, 1795304680826, 'default', 'order.created', 'local', 'order.create', '01a2007f-6d78-7714-8327-6540bc30a88a', NULL, '{"currency":"EUR","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":6,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO public.events VALUES (45, '01a2007f-6d7a-7003-861b-22524f4b36ba', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 2, 1795304680826, 'default', 'stock.reserved', 'local', 'order.create', '01a2007f-6d78-7714-8327-6540bc30a88a', NULL, '{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.events VALUES (46, '01a2007f-6d84-7001-a3cf-c833835bb55e', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 3, 1795304680836, 'default', 'payment.authorized', 'worker', 'authorize_payment', '01a2007f-6d78-7714-8327-6540bc30a88a', 1, '{"amount":1250,"provider":"sandbox","reference":"sandbox_01a2007f6d837573aa6fa417e3873cb1"}');
INSERT INTO public.events VALUES (47, '01a2007f-6d84-7002-9178-53a3d6f9206f', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 4, 1795304680836, 'default', 'order.processing', 'worker', 'authorize_payment', '01a2007f-6d78-7714-8327-6540bc30a88a', 1, '{}');
INSERT INTO public.events VALUES (48, '01a2007f-6d8c-7002-95e1-943a3f2ab356', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 5, 1795304680844, 'default', 'shipment.created', 'worker', 'request_shipment', '01a2007f-6d78-7714-8327-6540bc30a88a', 1, '{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-6d8c-7001-9dfc-d77e443574c9","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX7768B79D49050DC57304"}}');
INSERT INTO public.events VALUES (49, '01a2007f-6df3-7001-86a0-8a21f7099eb4', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 6, 1795304680947, 'default', 'order.cancelled', 'local', 'order.cancel', '01a2007f-6df2-7685-8dbc-163d1c14b4d0', NULL, '{"reason":"operator_request"}');
INSERT INTO public.events VALUES (50, '01a2007f-6df3-7002-8154-ad8561a7dbbe', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 7, 1795304680947, 'default', 'stock.released', 'local', 'order.cancel', '01a2007f-6df2-7685-8dbc-163d1c14b4d0', NULL, '{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.events VALUES (51, '01a2007f-6df3-7003-b82d-f6ed68f70cb8', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 8, 1795304680947, 'default', 'shipment.cancelled', 'local', 'order.cancel', '01a2007f-6df2-7685-8dbc-163d1c14b4d0', NULL, '{"shipment_id":"01a2007f-6d8c-7001-9dfc-d77e443574c9"}');
INSERT INTO public.events VALUES (52, '01a2007f-6e00-7001-8763-015270458809', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 9, 1795304680960, 'default', 'payment.voided', 'worker', 'void_payment', '01a2007f-6df2-7685-8dbc-163d1c14b4d0', 1, '{"reference":"sandbox_01a2007f6d837573aa6fa417e3873cb1"}');
INSERT INTO public.events VALUES (53, '01a2007f-6e6d-7001-8b9d-b978d0e016a4', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 10, 1795304681069, 'default', 'order.deleted', 'local', 'order.delete', '01a2007f-6e6c-7613-a79d-5db943a9db1b', NULL, '{}');
INSERT INTO public.events VALUES (54, '01a2007f-7266-7002-803b-ec240c9e432a', '01a2007f-7266-7001-b8f7-240a7226e524', 1, 1795304682086, 'default', 'order.created', 'local', 'order.create', '01a2007f-7264-7507-9c4e-c1e567c12dde', NULL, '{"currency":"EUR","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"items":[{"name":"A mug","quantity":3,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":7,"payment_method":"pm_slow","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":3750}');
INSERT INTO public.events VALUES (55, '01a2007f-7266-7003-962b-09f3c05cc5a1', '01a2007f-7266-7001-b8f7-240a7226e524', 2, 1795304682086, 'default', 'stock.reserved', 'local', 'order.create', '01a2007f-7264-7507-9c4e-c1e567c12dde', NULL, '{"items":[{"quantity":3,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.events VALUES (56, '01a2007f-752c-7002-9147-075374e91152', '01a2007f-752c-7001-a48c-6e5c637e1ae0', 1, 1795304682796, 'default', 'order.created', 'local', 'order.create', '01a2007f-752a-7075-8934-410d8fb77816', NULL, '{"currency":"EUR","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":8,"payment_method":"pm_slow","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO public.events VALUES (57, '01a2007f-752c-7003-a14a-0cd0f40ef67f', '01a2007f-752c-7001-a48c-6e5c637e1ae0', 2, 1795304682796, 'default', 'stock.reserved', 'local', 'order.create', '01a2007f-752a-7075-8934-410d8fb77816', NULL, '{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO public.feed VALUES ('events', 57);
INSERT INTO public.idempotency VALUES ('*/product.create/message/01a2007f-5dac-7437-9b4e-30d80fb2bce6', 'VZpTjC1SE-EO2gaYnRv5Mz98AQZIhZq_p9tS9mFbttU', '{"product":"mug"}', NULL, 1795909476781);
INSERT INTO public.idempotency VALUES ('*/product.create/message/01a2007f-5dbb-770c-8575-316d702adf98', 'Px-9v59Mv0iSPN8QpJOVQRQPhot1OxpLrUl_QF8eujo', '{"product":"tee"}', NULL, 1795909476796);
INSERT INTO public.idempotency VALUES ('*/stock.set/message/01a2007f-5dc2-7382-92f2-df7c91eb7df5', 'Urjbli6sL-YdOomDamKTkjFgItRR0jQpBuefVPPVQZ4', '{"product":"mug"}', NULL, 1795909476803);
INSERT INTO public.idempotency VALUES ('*/stock.set/message/01a2007f-5dca-775f-866a-144cc30b6923', 'JSueFKfzrW8oYVxLyHMSNEDqPt1_sC5GrJDQvO4tbTg', '{"product":"tee"}', NULL, 1795909476811);
INSERT INTO public.idempotency VALUES ('*/stock.set/message/01a2007f-5dd1-7346-ac22-8ad19a2e2983', 'iC0WR-yzRj7iiGy4O9HIN4BuxMO1kP5hPztU5D9XKEw', '{"product":"tee"}', NULL, 1795909476818);
INSERT INTO public.idempotency VALUES ('*/customer.create/message/01a2007f-5dd7-7745-87f2-5c2698ee0278', '7fB-YowiUOvWRyzm3ireB_zaBOCrO4SC8ZrrIZn1iN8', '{"customer":"01a2007f-5dd8-7001-b753-ddba805f4c85"}', NULL, 1795909476824);
INSERT INTO public.idempotency VALUES ('*/customer.create/message/01a2007f-5ddc-7633-82fe-3b7077b10772', 'APQ6RERhrjPsBuyxqMJRNtYoUo5szN-ItSxiTid2vOI', '{"customer":"01a2007f-5ddd-7001-ac06-4863abc51323"}', NULL, 1795909476829);
INSERT INTO public.idempotency VALUES ('*/order.create/key/first-key', 'TJb0RO15U3ZhLWDBNsvnecLPJE8PBaA3MJTSEbGwjv4', '{"order":"01a2007f-5de2-7001-aa15-3ab9e8446a8e"}', '{"status":"SUCCESS","value":{"cancel_reason":null,"created_at":"2026-11-21T23:44:36.834Z","currency":"EUR","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","deleted_at":null,"external_id":null,"id":"01a2007f-5de2-7001-aa15-3ab9e8446a8e","in_progress":{"attempt":1,"due_at":"2026-11-21T23:44:36.834Z","step":"authorize_payment"},"is_deleted":false,"items":[{"name":"A mug","quantity":2,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{"a":1},"number":1,"payment":{"authorized":0,"captured":0,"provider":"sandbox","reference":null,"refunded":0,"status":"pending"},"shipments":[],"shipping_address":{"city":"Berlin","country":"DE","line1":"1 Street","name":"Ada","postal_code":"1"},"status":"pending","storefront":"default","total":2500,"updated_at":"2026-11-21T23:44:36.834Z","version":2}}', 1795909476834);
INSERT INTO public.idempotency VALUES ('*/shipment.update/message/first-1', '', '{"order":"01a2007f-5de2-7001-aa15-3ab9e8446a8e"}', NULL, 1795909476959);
INSERT INTO public.idempotency VALUES ('*/shipment.update/message/first-2', '', '{"order":"01a2007f-5de2-7001-aa15-3ab9e8446a8e"}', NULL, 1795909477082);
INSERT INTO public.idempotency VALUES ('*/order.create/message/01a2007f-5ee4-70bf-b5ba-cad950c535e4', 'lCRoJkPLpAb0FRNe4yXmfW4T5RTBYiaZ3-KYbIelQPU', '{"order":"01a2007f-5ee5-7001-997f-f910d74c62a8"}', NULL, 1795909477093);
INSERT INTO public.idempotency VALUES ('*/shipment.update/message/first-3', '', '{"order":"01a2007f-5ee5-7001-997f-f910d74c62a8"}', NULL, 1795909477213);
INSERT INTO public.idempotency VALUES ('*/order.create/message/01a2007f-67a7-75b2-9a57-d420cef72dd0', 'QgdX80j0P9sIBbI_ueKSV6x8VvfhfCnmGDdMH-R5HEc', '{"order":"01a2007f-67a8-7001-9ae2-3f14136475a1"}', NULL, 1795909479336);
INSERT INTO public.idempotency VALUES ('*/order.create/message/01a2007f-6c05-703a-b137-69d541cb6624', 'eeJthm3yV64q7fURUk5oIBFq738h_NmHuOroiFYBIx0', '{"order":"01a2007f-6c07-7001-8f63-54c4f0a251e5"}', NULL, 1795909480455);
INSERT INTO public.idempotency VALUES ('*/order.create/message/01a2007f-6c7f-77de-95d4-34cc796512a9', 'lCRoJkPLpAb0FRNe4yXmfW4T5RTBYiaZ3-KYbIelQPU', '{"order":"01a2007f-6c81-7001-be80-5abf7991854a"}', NULL, 1795909480577);
INSERT INTO public.idempotency VALUES ('*/order.cancel/message/01a2007f-6cf9-77b9-9778-b430eda38762', 'VS5Loqu8IyF5CnCP4F4hK90vzymeC0ufcYt7cR6iTqo', '{"order":"01a2007f-6c81-7001-be80-5abf7991854a"}', NULL, 1795909480699);
INSERT INTO public.idempotency VALUES ('*/order.create/message/01a2007f-6d78-7714-8327-6541abfdcd80', 'lCRoJkPLpAb0FRNe4yXmfW4T5RTBYiaZ3-KYbIelQPU', '{"order":"01a2007f-6d7a-7001-b78b-51a7f7352cc5"}', NULL, 1795909480826);
INSERT INTO public.idempotency VALUES ('*/order.cancel/message/01a2007f-6df2-7685-8dbc-163e1b9be6b8', 'MbznqOfYZ7ba3-xwv9zjNTQGigSPfIPUpFiYsUim_zo', '{"order":"01a2007f-6d7a-7001-b78b-51a7f7352cc5"}', NULL, 1795909480947);
INSERT INTO public.idempotency VALUES ('*/order.delete/message/01a2007f-6e6c-7613-a79d-5dbaa0b4cd6e', 'MbznqOfYZ7ba3-xwv9zjNTQGigSPfIPUpFiYsUim_zo', '{"order":"01a2007f-6d7a-7001-b78b-51a7f7352cc5"}', NULL, 1795909481069);
INSERT INTO public.idempotency VALUES ('*/customer.block/message/01a2007f-6e74-70db-ba01-140fa373ad54', '2yjUT35u3J3dQ2FNQKjNCXB_laqby7MCLaMq4VdjCi8', '{"customer":"01a2007f-5ddd-7001-ac06-4863abc51323"}', NULL, 1795909481078);
INSERT INTO public.idempotency VALUES ('*/order.create/message/01a2007f-7264-7507-9c4e-c1e61bfd862b', 'BMlVuLx2HbuDUUmBLzpDbET19zUaOS9RpJMCgDKbbXQ', '{"order":"01a2007f-7266-7001-b8f7-240a7226e524"}', NULL, 1795909482086);
INSERT INTO public.idempotency VALUES ('*/order.create/message/01a2007f-752a-7075-8934-410ea2a0de1f', 'kGG0r8OUUmUReWGqFe1AD9D5Qlsr7G9OZ7QtxGaWQhg', '{"order":"01a2007f-752c-7001-a48c-6e5c637e1ae0"}', NULL, 1795909482796);
INSERT INTO public.order_items VALUES ('mug', 1795304676834, 1);
INSERT INTO public.order_items VALUES ('mug', 1795304677093, 2);
INSERT INTO public.order_items VALUES ('mug', 1795304679336, 3);
INSERT INTO public.order_items VALUES ('tee', 1795304679336, 3);
INSERT INTO public.order_items VALUES ('mug', 1795304680455, 4);
INSERT INTO public.order_items VALUES ('mug', 1795304680577, 5);
INSERT INTO public.order_items VALUES ('mug', 1795304680826, 6);
INSERT INTO public.order_items VALUES ('mug', 1795304682086, 7);
INSERT INTO public.order_items VALUES ('mug', 1795304682796, 8);
INSERT INTO public.orders VALUES (1, '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 'default', '01a2007f-5dd8-7001-b753-ddba805f4c85', 'delivered', false, 1795304676834, '{"id":"01a2007f-5de2-7001-aa15-3ab9e8446a8e","number":1,"storefront":"default","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"status":"delivered","cancel_reason":null,"currency":"EUR","total":2500,"items":[{"sku":"mug","name":"A mug","quantity":2,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":{"city":"Berlin","country":"DE","line1":"1 Street","name":"Ada","postal_code":"1"},"payment_method":"pm_ok","payment":{"status":"captured","provider":"sandbox","reference":"sandbox_01a2007f5df77588b838a30efc1364c6","authorized":2500,"captured":2500,"refunded":0},"shipments":[{"id":"01a2007f-5e03-7001-a6cc-c9e9667d2740","status":"delivered","carrier":"DHL","tracking_number":"SBX73278BA9DFCE1E972C24","items":[{"sku":"mug","warehouse":"berlin","quantity":2}],"shipped_at":"2026-11-21T23:44:36.959Z","delivered_at":"2026-11-21T23:44:37.082Z"}],"metadata":{"a":1},"version":10,"is_deleted":false,"created_at":"2026-11-21T23:44:36.834Z","updated_at":"2026-11-21T23:44:37.082Z","deleted_at":null}');
INSERT INTO public.orders VALUES (2, '01a2007f-5ee5-7001-997f-f910d74c62a8', 'default', '01a2007f-5dd8-7001-b753-ddba805f4c85', 'shipped', false, 1795304677093, '{"id":"01a2007f-5ee5-7001-997f-f910d74c62a8","number":2,"storefront":"default","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"status":"shipped","cancel_reason":null,"currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":null,"payment_method":"pm_ok","payment":{"status":"captured","provider":"sandbox","reference":"sandbox_01a2007f5eed70aeb708c7a2a3c31773","authorized":1250,"captured":1250,"refunded":0},"shipments":[{"id":"01a2007f-5ef6-7001-bfca-521496a7bde0","status":"shipped","carrier":"DHL","tracking_number":"SBX71D1BF5A76DF41EC3929","items":[{"sku":"mug","warehouse":"berlin","quantity":1}],"shipped_at":"2026-11-21T23:44:37.213Z","delivered_at":null}],"metadata":{},"version":8,"is_deleted":false,"created_at":"2026-11-21T23:44:37.093Z","updated_at":"2026-11-21T23:44:37.224Z","deleted_at":null}');
INSERT INTO public.orders VALUES (3, '01a2007f-67a8-7001-9ae2-3f14136475a1', 'default', '01a2007f-5dd8-7001-b753-ddba805f4c85', 'processing', false, 1795304679336, '{"id":"01a2007f-67a8-7001-9ae2-3f14136475a1","number":3,"storefront":"default","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"status":"processing","cancel_reason":null,"currency":"EUR","total":13244,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"},{"sku":"tee","name":"A tee","quantity":5,"unit_price":1999,"warehouse":"berlin"},{"sku":"tee","name":"A tee","quantity":1,"unit_price":1999,"warehouse":"paris"}],"held":[{"sku":"mug","warehouse":"berlin","quantity":1},{"sku":"tee","warehouse":"berlin","quantity":5},{"sku":"tee","warehouse":"paris","quantity":1}],"shipping_address":null,"payment_method":"pm_ok","payment":{"status":"authorized","provider":"sandbox","reference":"sandbox_01a2007f67af7114bfca6c1309e18fa5","authorized":13244,"captured":0,"refunded":0},"shipments":[{"id":"01a2007f-67b6-7001-855f-679546b00598","status":"label_created","carrier":"sandbox","tracking_number":"SBX75D286382F33C76016A2","items":[{"sku":"mug","warehouse":"berlin","quantity":1},{"sku":"tee","warehouse":"berlin","quantity":5}],"shipped_at":null,"delivered_at":null},{"id":"01a2007f-67bd-7001-87b3-8466ce2e367d","status":"label_created","carrier":"sandbox","tracking_number":"SBX7757B537338CBF381647","items":[{"sku":"tee","warehouse":"paris","quantity":1}],"shipped_at":null,"delivered_at":null}],"metadata":{},"version":6,"is_deleted":false,"created_at":"2026-11-21T23:44:39.336Z","updated_at":"2026-11-21T23:44:39.357Z","deleted_at":null}');
INSERT INTO public.orders VALUES (4, '01a2007f-6c07-7001-8f63-54c4f0a251e5', 'default', '01a2007f-5dd8-7001-b753-ddba805f4c85', 'cancelled', false, 1795304680455, '{"id":"01a2007f-6c07-7001-8f63-54c4f0a251e5","number":4,"storefront":"default","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"status":"cancelled","cancel_reason":"payment_declined","currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":null,"payment_method":"pm_declined","payment":{"status":"failed","provider":"sandbox","reference":null,"authorized":0,"captured":0,"refunded":0},"shipments":[],"metadata":{},"version":5,"is_deleted":false,"created_at":"2026-11-21T23:44:40.455Z","updated_at":"2026-11-21T23:44:40.464Z","deleted_at":null}');
INSERT INTO public.orders VALUES (5, '01a2007f-6c81-7001-be80-5abf7991854a', 'default', '01a2007f-5dd8-7001-b753-ddba805f4c85', 'cancelled', false, 1795304680577, '{"id":"01a2007f-6c81-7001-be80-5abf7991854a","number":5,"storefront":"default","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"status":"cancelled","cancel_reason":"operator_request","currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":null,"payment_method":"pm_ok","payment":{"status":"voided","provider":"sandbox","reference":"sandbox_01a2007f6c8c77d79c0974a52b6381c3","authorized":1250,"captured":0,"refunded":0},"shipments":[{"id":"01a2007f-6c95-7001-b2b5-e238d5715f2d","status":"cancelled","carrier":"sandbox","tracking_number":"SBX700B8F14A2F23CE33902","items":[{"sku":"mug","warehouse":"berlin","quantity":1}],"shipped_at":null,"delivered_at":null}],"metadata":{},"version":9,"is_deleted":false,"created_at":"2026-11-21T23:44:40.577Z","updated_at":"2026-11-21T23:44:40.717Z","deleted_at":null}');
INSERT INTO public.orders VALUES (8, '01a2007f-752c-7001-a48c-6e5c637e1ae0', 'default', '01a2007f-5dd8-7001-b753-ddba805f4c85', 'pending', false, 1795304682796, '{"id":"01a2007f-752c-7001-a48c-6e5c637e1ae0","number":8,"storefront":"default","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"status":"pending","cancel_reason":null,"currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[{"sku":"mug","warehouse":"berlin","quantity":1}],"shipping_address":null,"payment_method":"pm_slow","payment":{"status":"pending","provider":"sandbox","reference":null,"authorized":0,"captured":0,"refunded":0},"shipments":[],"metadata":{},"version":2,"is_deleted":false,"created_at":"2026-11-21T23:44:42.796Z","updated_at":"2026-11-21T23:44:42.796Z","deleted_at":null}');
INSERT INTO public.orders VALUES (6, '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 'default', '01a2007f-5dd8-7001-b753-ddba805f4c85', 'cancelled', true, 1795304680826, '{"id":"01a2007f-6d7a-7001-b78b-51a7f7352cc5","number":6,"storefront":"default","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"status":"cancelled","cancel_reason":"operator_request","currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":null,"payment_method":"pm_ok","payment":{"status":"voided","provider":"sandbox","reference":"sandbox_01a2007f6d837573aa6fa417e3873cb1","authorized":1250,"captured":0,"refunded":0},"shipments":[{"id":"01a2007f-6d8c-7001-9dfc-d77e443574c9","status":"cancelled","carrier":"sandbox","tracking_number":"SBX7768B79D49050DC57304","items":[{"sku":"mug","warehouse":"berlin","quantity":1}],"shipped_at":null,"delivered_at":null}],"metadata":{},"version":10,"is_deleted":true,"created_at":"2026-11-21T23:44:40.826Z","updated_at":"2026-11-21T23:44:41.069Z","deleted_at":"2026-11-21T23:44:41.069Z"}');
INSERT INTO public.orders VALUES (7, '01a2007f-7266-7001-b8f7-240a7226e524', 'default', '01a2007f-5dd8-7001-b753-ddba805f4c85', 'pending', false, 1795304682086, '{"id":"01a2007f-7266-7001-b8f7-240a7226e524","number":7,"storefront":"default","customer_id":"01a2007f-5dd8-7001-b753-ddba805f4c85","external_id":null,"status":"pending","cancel_reason":null,"currency":"EUR","total":3750,"items":[{"sku":"mug","name":"A mug","quantity":3,"unit_price":1250,"warehouse":"berlin"}],"held":[{"sku":"mug","warehouse":"berlin","quantity":3}],"shipping_address":null,"payment_method":"pm_slow","payment":{"status":"pending","provider":"sandbox","reference":null,"authorized":0,"captured":0,"refunded":0},"shipments":[],"metadata":{},"version":2,"is_deleted":false,"created_at":"2026-11-21T23:44:42.086Z","updated_at":"2026-11-21T23:44:42.086Z","deleted_at":null}');
INSERT INTO public.products VALUES ('mug', false, '{"details":{"sku":"mug","name":"A mug","price":1250,"currency":"EUR","image_urls":[]},"is_deleted":false,"version":2,"created_at":"2026-11-21T23:44:36.781Z","updated_at":"2026-11-21T23:44:36.803Z"}');
INSERT INTO public.products VALUES ('tee', false, '{"details":{"sku":"tee","name":"A tee","price":1999,"currency":"EUR","image_urls":[]},"is_deleted":false,"version":3,"created_at":"2026-11-21T23:44:36.796Z","updated_at":"2026-11-21T23:44:36.818Z"}');
INSERT INTO public.relay VALUES ('probe', 0);
INSERT INTO public.relay VALUES ('events', 57);
INSERT INTO public.shelves VALUES ('tee', 'berlin', 5, 5);
INSERT INTO public.shelves VALUES ('tee', 'paris', 5, 1);
INSERT INTO public.shelves VALUES ('mug', 'berlin', 97, 5);
INSERT INTO public.steps VALUES ('01a2007f-7266-7001-b8f7-240a7226e524', 'authorize_payment', 1, 0, 1795304682086, 1795304712086, NULL, '01a2007f-7264-7507-9c4e-c1e567c12dde', 1795304682086);
INSERT INTO public.steps VALUES ('01a2007f-7266-7001-b8f7-240a7226e524', 'expire_order', 1, 0, 1795306482086, 1795306482086, NULL, '01a2007f-7264-7507-9c4e-c1e567c12dde', 1795304682086);
INSERT INTO public.steps VALUES ('01a2007f-752c-7001-a48c-6e5c637e1ae0', 'authorize_payment', 1, 0, 1795304682796, 1795304712796, NULL, '01a2007f-752a-7075-8934-410d8fb77816', 1795304682796);
INSERT INTO public.steps VALUES ('01a2007f-752c-7001-a48c-6e5c637e1ae0', 'expire_order', 1, 0, 1795306482796, 1795306482796, NULL, '01a2007f-752a-7075-8934-410d8fb77816', 1795304682796);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (1, 'sandbox_01a2007f5df77588b838a30efc1364c6', 'authorize', 2500);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (2, 'sandbox_01a2007f5df77588b838a30efc1364c6', 'capture', 2500);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (3, 'sandbox_01a2007f5eed70aeb708c7a2a3c31773', 'authorize', 1250);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (4, 'sandbox_01a2007f5eed70aeb708c7a2a3c31773', 'capture', 1250);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (5, 'sandbox_01a2007f67af7114bfca6c1309e18fa5', 'authorize', 13244);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (6, 'sandbox_01a2007f6c8c77d79c0974a52b6381c3', 'authorize', 1250);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (7, 'sandbox_01a2007f6c8c77d79c0974a52b6381c3', 'void', 1250);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (8, 'sandbox_01a2007f6d837573aa6fa417e3873cb1', 'authorize', 1250);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (9, 'sandbox_01a2007f6d837573aa6fa417e3873cb1', 'void', 1250);
INSERT INTO sandbox.movements OVERRIDING SYSTEM VALUE VALUES (10, 'sandbox_01a2007f726e7075b2ca3360d11a4c47', 'authorize', 3750);
INSERT INTO sandbox.parcels VALUES ('01a2007f-5de2-7001-aa15-3ab9e8446a8e/request_shipment:berlin', '01a2007f-5de2-7001-aa15-3ab9e8446a8e', 'SBX73278BA9DFCE1E972C24', false, 0, NULL);
INSERT INTO sandbox.parcels VALUES ('01a2007f-5ee5-7001-997f-f910d74c62a8/request_shipment:berlin', '01a2007f-5ee5-7001-997f-f910d74c62a8', 'SBX71D1BF5A76DF41EC3929', false, 0, NULL);
INSERT INTO sandbox.parcels VALUES ('01a2007f-67a8-7001-9ae2-3f14136475a1/request_shipment:berlin', '01a2007f-67a8-7001-9ae2-3f14136475a1', 'SBX75D286382F33C76016A2', false, 0, NULL);
INSERT INTO sandbox.parcels VALUES ('01a2007f-67a8-7001-9ae2-3f14136475a1/request_shipment:paris', '01a2007f-67a8-7001-9ae2-3f14136475a1', 'SBX7757B537338CBF381647', false, 0, NULL);
INSERT INTO sandbox.parcels VALUES ('01a2007f-6c81-7001-be80-5abf7991854a/request_shipment:berlin', '01a2007f-6c81-7001-be80-5abf7991854a', 'SBX700B8F14A2F23CE33902', true, 0, NULL);
INSERT INTO sandbox.parcels VALUES ('01a2007f-6d7a-7001-b78b-51a7f7352cc5/request_shipment:berlin', '01a2007f-6d7a-7001-b78b-51a7f7352cc5', 'SBX7768B79D49050DC57304', true, 0, NULL);
INSERT INTO sandbox.payments VALUES ('01a2007f-5de2-7001-aa15-3ab9e8446a8e/authorize_payment', 'sandbox_01a2007f5df77588b838a30efc1364c6', 'captured', 2500, 'EUR', 2500, 0, 1);
INSERT INTO sandbox.payments VALUES ('01a2007f-5ee5-7001-997f-f910d74c62a8/authorize_payment', 'sandbox_01a2007f5eed70aeb708c7a2a3c31773', 'captured', 1250, 'EUR', 1250, 0, 1);
INSERT INTO sandbox.payments VALUES ('01a2007f-67a8-7001-9ae2-3f14136475a1/authorize_payment', 'sandbox_01a2007f67af7114bfca6c1309e18fa5', 'authorized', 13244, 'EUR', 0, 0, 1);
INSERT INTO sandbox.payments VALUES ('01a2007f-6c07-7001-8f63-54c4f0a251e5/authorize_payment', 'sandbox_01a2007f6c0f77e6b6a3f487cc0ba385', 'declined', 1250, 'EUR', 0, 0, 1);
INSERT INTO sandbox.payments VALUES ('01a2007f-6c81-7001-be80-5abf7991854a/authorize_payment', 'sandbox_01a2007f6c8c77d79c0974a52b6381c3', 'voided', 1250, 'EUR', 0, 0, 1);
INSERT INTO sandbox.payments VALUES ('01a2007f-6d7a-7001-b78b-51a7f7352cc5/authorize_payment', 'sandbox_01a2007f6d837573aa6fa417e3873cb1', 'voided', 1250, 'EUR', 0, 0, 1);
INSERT INTO sandbox.payments VALUES ('01a2007f-7266-7001-b8f7-240a7226e524/authorize_payment', 'sandbox_01a2007f726e7075b2ca3360d11a4c47', 'authorized', 3750, 'EUR', 0, 0, 1);
SELECT pg_catalog.setval('public.order_numbers', 8, true);
SELECT pg_catalog.setval('sandbox.movements_id_seq', 10, true);
ALTER TABLE ONLY public._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY public.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY ("position");
ALTER TABLE ONLY public.feed
    ADD CONSTRAINT feed_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.order_items
    ADD CONSTRAINT order_items_pkey PRIMARY KEY (sku, created_at, number);
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_id_key UNIQUE (id);
ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (number);
ALTER TABLE ONLY public.products
    ADD CONSTRAINT products_pkey PRIMARY KEY (sku);
ALTER TABLE ONLY public.relay
    ADD CONSTRAINT relay_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.shelves
    ADD CONSTRAINT shelves_pkey PRIMARY KEY (sku, warehouse);
ALTER TABLE ONLY public.steps
    ADD CONSTRAINT steps_pkey PRIMARY KEY (order_id, step);
ALTER TABLE ONLY sandbox.movements
    ADD CONSTRAINT movements_pkey PRIMARY KEY (id);
ALTER TABLE ONLY sandbox.parcels
    ADD CONSTRAINT parcels_pkey PRIMARY KEY (key);
ALTER TABLE ONLY sandbox.payments
    ADD CONSTRAINT payments_pkey PRIMARY KEY (key);
ALTER TABLE ONLY sandbox.payments
    ADD CONSTRAINT payments_reference_key UNIQUE (reference);
CREATE INDEX customers_by_storefront ON public.customers USING btree (storefront, id);
CREATE INDEX dead_letters_by_time ON public.dead_letters USING btree (received_at, id);
CREATE INDEX dead_steps ON public.steps USING btree (due_at, order_id, step) WHERE (publish_at IS NULL);
CREATE UNIQUE INDEX events_by_subject ON public.events USING btree (subject, sequence);
CREATE INDEX idempotency_by_expiry ON public.idempotency USING btree (expires_at);
CREATE INDEX orders_by_created ON public.orders USING btree (created_at, number);
CREATE INDEX orders_by_customer ON public.orders USING btree (customer_id, created_at, number);
CREATE INDEX orders_by_status ON public.orders USING btree (status, created_at, number);
CREATE INDEX orders_by_storefront ON public.orders USING btree (storefront, created_at, number);
CREATE INDEX steps_by_publish_at ON public.steps USING btree (publish_at) WHERE (publish_at IS NOT NULL);
CREATE INDEX movements_by_payment ON sandbox.movements USING btree (payment);
CREATE INDEX parcels_by_next_at ON sandbox.parcels USING btree (next_at) WHERE (next_at IS NOT NULL);
