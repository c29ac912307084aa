BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'initial','2026-11-21 23:44:30',1,X'12B9B2CD4CC785C41C9F722460BE64CFC7F7DB89CE0AD4AFB8C37B7B3189F1FFA73DC34B6BCE24632B3F06CCD2AF1342',2006881);
INSERT INTO "_sqlx_migrations" VALUES(2,'dead letters and clocks','2026-11-21 23:44:30',1,X'9D8D5C8F5820D4C2478186C7FCD714343C82BFEA65BA4D5F0DAC814A8391A827227CDDA5F1D6562C1D8CA6878E8B08AC',2022766);
CREATE TABLE customers (
    id         TEXT PRIMARY KEY,
    storefront TEXT NOT NULL,
    state      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "customers" VALUES('01a2007f-4583-7001-9dd5-909149e9f5fd','default','{"id":"01a2007f-4583-7001-9dd5-909149e9f5fd","name":"Ada","email":"ada@example.com","storefront":"default","is_blocked":false,"created_at":"2026-11-21T23:44:30.595Z"}');
INSERT INTO "customers" VALUES('01a2007f-4588-7001-8988-fc7629d3c13c','default','{"id":"01a2007f-4588-7001-8988-fc7629d3c13c","name":"Bob","email":"bob@example.com","storefront":"default","is_blocked":true,"created_at":"2026-11-21T23:44:30.6Z"}');
CREATE TABLE dead_letters (
    id          TEXT    PRIMARY KEY,
    received_at INTEGER NOT NULL,
    queue       TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    -- Properties, headers and body: what it takes to send the message again.
    message     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE events (
    position   INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    sequence   INTEGER NOT NULL,
    time       INTEGER NOT NULL,
    storefront TEXT,
    type       TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    intent     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    attempt    INTEGER,
    data       TEXT    NOT NULL
) STRICT;
INSERT INTO "events" VALUES(1,'01a2007f-456d-7001-ad3c-f0002f756565','mug',1,1795304670573,NULL,'product.created','local','product.create','01a2007f-456b-7315-a212-6810bc1390c9',NULL,'{"product":{"currency":"EUR","image_urls":[],"name":"A mug","price":1250,"sku":"mug"}}');
INSERT INTO "events" VALUES(2,'01a2007f-4573-7001-ba13-d0c9e4e1b80f','tee',1,1795304670579,NULL,'product.created','local','product.create','01a2007f-4572-73a9-84fe-40e882b96405',NULL,'{"product":{"currency":"EUR","image_urls":[],"name":"A tee","price":1999,"sku":"tee"}}');
INSERT INTO "events" VALUES(3,'01a2007f-4577-7001-a4ff-ac92aa10dde6','mug',2,1795304670583,NULL,'stock.adjusted','local','stock.set','01a2007f-4576-712e-9991-696bc80381a3',NULL,'{"on_hand":100,"sku":"mug","warehouse":"berlin"}');
INSERT INTO "events" VALUES(4,'01a2007f-457b-7001-812c-ac14f5a966e0','tee',2,1795304670587,NULL,'stock.adjusted','local','stock.set','01a2007f-457a-75ca-971b-c80eaa0fb930',NULL,'{"on_hand":5,"sku":"tee","warehouse":"berlin"}');
INSERT INTO "events" VALUES(5,'01a2007f-457f-7001-9e47-48483d156e5f','tee',3,1795304670591,NULL,'stock.adjusted','local','stock.set','01a2007f-457e-769b-9da1-2f583a3b987f',NULL,'{"on_hand":5,"sku":"tee","warehouse":"paris"}');
INSERT INTO "events" VALUES(6,'01a2007f-458c-7002-b21a-b3dc58a2b0e0','01a2007f-458c-7001-9fd7-c6921c5485ba',1,1795304670604,'default','order.created','local','order.create','01a2007f-458b-7553-b780-0ef4f7e125f2',NULL,'{"currency":"EUR","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"items":[{"name":"A mug","quantity":2,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{"a":1},"number":1,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":{"city":"Berlin","country":"DE","line1":"1 Street","name":"Ada","postal_code":"1"},"storefront":"default","total":2500}');
INSERT INTO "events" VALUES(7,'01a2007f-458c-7003-bb4f-8e4d081d34a6','01a2007f-458c-7001-9fd7-c6921c5485ba',2,1795304670604,'default','stock.reserved','local','order.create','01a2007f-458b-7553-b780-0ef4f7e125f2',NULL,'{"items":[{"quantity":2,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO "events" VALUES(8,'01a2007f-4597-7001-a75a-260548dac8e3','01a2007f-458c-7001-9fd7-c6921c5485ba',3,1795304670615,'default','payment.authorized','worker','authorize_payment','01a2007f-458b-7553-b780-0ef4f7e125f2',1,'{"amount":2500,"provider":"sandbox","reference":"sandbox_01a2007f45967065a6187255ced4931b"}');
INSERT INTO "events" VALUES(9,'01a2007f-4597-7002-b46c-d3cd6f81ddeb','01a2007f-458c-7001-9fd7-c6921c5485ba',4,1795304670615,'default','order.processing','worker','authorize_payment','01a2007f-458b-7553-b780-0ef4f7e125f2',1,'{}');
INSERT INTO "events" VALUES(10,'01a2007f-459c-7002-8f6d-03222d1fb78d','01a2007f-458c-7001-9fd7-c6921c5485ba',5,1795304670620,'default','shipment.created','worker','request_shipment','01a2007f-458b-7553-b780-0ef4f7e125f2',1,'{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-459c-7001-a872-0df41aa73396","items":[{"quantity":2,"sku":"mug","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX77B18827B3245CC76CCF"}}');
INSERT INTO "events" VALUES(11,'01a2007f-45ff-7001-b6e7-c94677f6a75a','01a2007f-458c-7001-9fd7-c6921c5485ba',6,1795304670719,'default','shipment.shipped','shipper','shipment.update','01a2007f-45fe-75d8-a104-4712148d5728',NULL,'{"carrier":"DHL","items":[{"quantity":2,"sku":"mug","warehouse":"berlin"}],"shipment_id":"01a2007f-459c-7001-a872-0df41aa73396","tracking_number":"SBX77B18827B3245CC76CCF"}');
INSERT INTO "events" VALUES(12,'01a2007f-45ff-7002-8bed-ed26c11f76f9','01a2007f-458c-7001-9fd7-c6921c5485ba',7,1795304670719,'default','order.shipped','shipper','shipment.update','01a2007f-45fe-75d8-a104-4712148d5728',NULL,'{}');
INSERT INTO "events" VALUES(13,'01a2007f-4605-7001-a967-a53d39a60e2b','01a2007f-458c-7001-9fd7-c6921c5485ba',8,1795304670725,'default','payment.captured','worker','capture_payment','01a2007f-45fe-75d8-a104-4712148d5728',1,'{"amount":2500}');
INSERT INTO "events" VALUES(14,'01a2007f-4671-7001-adb6-0b6deed03b57','01a2007f-458c-7001-9fd7-c6921c5485ba',9,1795304670833,'default','shipment.delivered','shipper','shipment.update','01a2007f-4670-75ef-a7e6-30515745220a',NULL,'{"shipment_id":"01a2007f-459c-7001-a872-0df41aa73396"}');
INSERT INTO "events" VALUES(15,'01a2007f-4671-7002-a3fb-6f12d8f50f0c','01a2007f-458c-7001-9fd7-c6921c5485ba',10,1795304670833,'default','order.delivered','shipper','shipment.update','01a2007f-4670-75ef-a7e6-30515745220a',NULL,'{}');
INSERT INTO "events" VALUES(16,'01a2007f-467f-7002-8c9f-cbed2b7a9bf1','01a2007f-467f-7001-9626-e628a782c500',1,1795304670847,'default','order.created','local','order.create','01a2007f-467e-7516-8766-60272c96a211',NULL,'{"currency":"EUR","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":2,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO "events" VALUES(17,'01a2007f-467f-7003-b42a-5d5f8bae09c9','01a2007f-467f-7001-9626-e628a782c500',2,1795304670847,'default','stock.reserved','local','order.create','01a2007f-467e-7516-8766-60272c96a211',NULL,'{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO "events" VALUES(18,'01a2007f-4686-7001-96e8-1b5709b62ee9','01a2007f-467f-7001-9626-e628a782c500',3,1795304670854,'default','payment.authorized','worker','authorize_payment','01a2007f-467e-7516-8766-60272c96a211',1,'{"amount":1250,"provider":"sandbox","reference":"sandbox_01a2007f46867221a1a1c33516fb02a3"}');
INSERT INTO "events" VALUES(19,'01a2007f-4686-7002-9bad-69cd975b6fa1','01a2007f-467f-7001-9626-e628a782c500',4,1795304670854,'default','order.processing','worker','authorize_payment','01a2007f-467e-7516-8766-60272c96a211',1,'{}');
INSERT INTO "events" VALUES(20,'01a2007f-468b-7002-953f-ac94bc304be6','01a2007f-467f-7001-9626-e628a782c500',5,1795304670859,'default','shipment.created','worker','request_shipment','01a2007f-467e-7516-8766-60272c96a211',1,'{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-468b-7001-ac29-7ae77f16f26e","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX7199A666594761600EF6"}}');
INSERT INTO "events" VALUES(21,'01a2007f-46f2-7001-810c-fbe703c16b69','01a2007f-467f-7001-9626-e628a782c500',6,1795304670962,'default','shipment.shipped','shipper','shipment.update','01a2007f-46f1-75e3-844b-aea06f4c24b5',NULL,'{"carrier":"DHL","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}],"shipment_id":"01a2007f-468b-7001-ac29-7ae77f16f26e","tracking_number":"SBX7199A666594761600EF6"}');
INSERT INTO "events" VALUES(22,'01a2007f-46f2-7002-9902-f5eb336daddf','01a2007f-467f-7001-9626-e628a782c500',7,1795304670962,'default','order.shipped','shipper','shipment.update','01a2007f-46f1-75e3-844b-aea06f4c24b5',NULL,'{}');
INSERT INTO "events" VALUES(23,'01a2007f-46f9-7001-ab09-91ebdb879435','01a2007f-467f-7001-9626-e628a782c500',8,1795304670969,'default','payment.captured','worker','capture_payment','01a2007f-46f1-75e3-844b-aea06f4c24b5',1,'{"amount":1250}');
INSERT INTO "events" VALUES(24,'01a2007f-4ed2-7002-8b49-ad162f7d35c8','01a2007f-4ed2-7001-a079-9d85ac39d9d5',1,1795304672978,'default','order.created','local','order.create','01a2007f-4ed0-7242-954a-4d978fca64b0',NULL,'{"currency":"EUR","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"},{"name":"A tee","quantity":5,"sku":"tee","unit_price":1999,"warehouse":"berlin"},{"name":"A tee","quantity":1,"sku":"tee","unit_price":1999,"warehouse":"paris"}],"metadata":{},"number":3,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":13244}');
INSERT INTO "events" VALUES(25,'01a2007f-4ed2-7003-9663-fda2d8638678','01a2007f-4ed2-7001-a079-9d85ac39d9d5',2,1795304672978,'default','stock.reserved','local','order.create','01a2007f-4ed0-7242-954a-4d978fca64b0',NULL,'{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"},{"quantity":5,"sku":"tee","warehouse":"berlin"},{"quantity":1,"sku":"tee","warehouse":"paris"}]}');
INSERT INTO "events" VALUES(26,'01a2007f-4edb-7001-9dd5-887467c5e6dd','01a2007f-4ed2-7001-a079-9d85ac39d9d5',3,1795304672987,'default','payment.authorized','worker','authorize_payment','01a2007f-4ed0-7242-954a-4d978fca64b0',1,'{"amount":13244,"provider":"sandbox","reference":"sandbox_01a2007f4eda71f18c451673e7564bb3"}');
INSERT INTO "events" VALUES(27,'01a2007f-4edb-7002-bff5-063da63228e3','01a2007f-4ed2-7001-a079-9d85ac39d9d5',4,1795304672987,'default','order.processing','worker','authorize_payment','01a2007f-4ed0-7242-954a-4d978fca64b0',1,'{}');
INSERT INTO "events" VALUES(28,'01a2007f-4ee1-7002-8c60-1a2c3f99f733','01a2007f-4ed2-7001-a079-9d85ac39d9d5',5,1795304672993,'default','shipment.created','worker','request_shipment','01a2007f-4ed0-7242-954a-4d978fca64b0',1,'{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-4ee1-7001-b2a7-5bf1916cf27a","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"},{"quantity":5,"sku":"tee","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX7339A8CD09F036D38081"}}');
INSERT INTO "events" VALUES(29,'01a2007f-4ee4-7002-95b4-241362a9deb5','01a2007f-4ed2-7001-a079-9d85ac39d9d5',6,1795304672996,'default','shipment.created','worker','request_shipment','01a2007f-4ed0-7242-954a-4d978fca64b0',1,'{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-4ee4-7001-bb71-4dc79a837a97","items":[{"quantity":1,"sku":"tee","warehouse":"paris"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX768B9D3F51616C937FFE"}}');
INSERT INTO "events" VALUES(30,'01a2007f-5330-7002-a08d-9dbd75dd2b6b','01a2007f-5330-7001-bf4f-29e6583b9912',1,1795304674096,'default','order.created','local','order.create','01a2007f-532e-71c5-84a9-c9562916855a',NULL,'{"currency":"EUR","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":4,"payment_method":"pm_declined","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO "events" VALUES(31,'01a2007f-5330-7003-b807-3ae678571ad6','01a2007f-5330-7001-bf4f-29e6583b9912',2,1795304674096,'default','stock.reserved','local','order.create','01a2007f-532e-71c5-84a9-c9562916855a',NULL,'{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO "events" VALUES(32,'01a2007f-533a-7001-bdfe-f329feb810f0','01a2007f-5330-7001-bf4f-29e6583b9912',3,1795304674106,'default','payment.declined','worker','authorize_payment','01a2007f-532e-71c5-84a9-c9562916855a',1,'{"code":"card_declined","message":"the card was declined"}');
INSERT INTO "events" VALUES(33,'01a2007f-533a-7002-9c24-22fe8c6bc84e','01a2007f-5330-7001-bf4f-29e6583b9912',4,1795304674106,'default','order.cancelled','worker','authorize_payment','01a2007f-532e-71c5-84a9-c9562916855a',1,'{"note":"the card was declined","reason":"payment_declined"}');
INSERT INTO "events" VALUES(34,'01a2007f-533a-7003-ab22-12489b197809','01a2007f-5330-7001-bf4f-29e6583b9912',5,1795304674106,'default','stock.released','worker','authorize_payment','01a2007f-532e-71c5-84a9-c9562916855a',1,'{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO "events" VALUES(35,'01a2007f-53ab-7002-ad21-9756c57eda36','01a2007f-53ab-7001-b93a-a0f152318992',1,1795304674219,'default','order.created','local','order.create','01a2007f-53a8-724e-b100-075bec1d8a8b',NULL,'{"currency":"EUR","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":5,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO "events" VALUES(36,'01a2007f-53ab-7003-a043-80c93be1ff9a','01a2007f-53ab-7001-b93a-a0f152318992',2,1795304674219,'default','stock.reserved','local','order.create','01a2007f-53a8-724e-b100-075bec1d8a8b',NULL,'{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO "events" VALUES(37,'01a2007f-53b5-7001-9283-8320a24b5d8b','01a2007f-53ab-7001-b93a-a0f152318992',3,1795304674229,'default','payment.authorized','worker','authorize_payment','01a2007f-53a8-724e-b100-075bec1d8a8b',1,'{"amount":1250,"provider":"sandbox","reference":"sandbox_01a2007f53b374ddb4356b8930f25992"}');
INSERT INTO "events" VALUES(38,'01a2007f-53b5-7002-9c51-dbc71636b14b','01a2007f-53ab-7001-b93a-a0f152318992',4,1795304674229,'default','order.processing','worker','authorize_payment','01a2007f-53a8-724e-b100-075bec1d8a8b',1,'{}');
INSERT INTO "events" VALUES(39,'01a2007f-53bb-7002-acfd-6c96a1678c11','01a2007f-53ab-7001-b93a-a0f152318992',5,1795304674235,'default','shipment.created','worker','request_shipment','01a2007f-53a8-724e-b100-075bec1d8a8b',1,'{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-53bb-7001-a291-85b061a2bf6b","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX70499682C323EB802166"}}');
INSERT INTO "events" VALUES(40,'01a2007f-5423-7001-859b-1492026e4b49','01a2007f-53ab-7001-b93a-a0f152318992',6,1795304674339,'default','order.cancelled','local','order.cancel','01a2007f-5422-72f8-97df-1f88faf6eb3f',NULL,'{"note":"x","reason":"operator_request"}');
INSERT INTO "events" VALUES(41,'01a2007f-5423-7002-b6e2-53c7049cbf16','01a2007f-53ab-7001-b93a-a0f152318992',7,1795304674339,'default','stock.released','local','order.cancel','01a2007f-5422-72f8-97df-1f88faf6eb3f',NULL,'{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO "events" VALUES(42,'01a2007f-5423-7003-8f13-bf982c8dac6b','01a2007f-53ab-7001-b93a-a0f152318992',8,1795304674339,'default','shipment.cancelled','local','order.cancel','01a2007f-5422-72f8-97df-1f88faf6eb3f',NULL,'{"shipment_id":"01a2007f-53bb-7001-a291-85b061a2bf6b"}');
INSERT INTO "events" VALUES(43,'01a2007f-542d-7001-9783-34eb23d93e12','01a2007f-53ab-7001-b93a-a0f152318992',9,1795304674349,'default','payment.voided','worker','void_payment','01a2007f-5422-72f8-97df-1f88faf6eb3f',1,'{"reference":"sandbox_01a2007f53b374ddb4356b8930f25992"}');
INSERT INTO "events" VALUES(44,'01a2007f-5498-7002-a1a3-792370889805','01a2007f-5498-7001-b677-f66ea8921f1c',1,1795304674456,'default','order.created','local','order.create','01a2007f-5497-72b8-b149-99f40a7ab42f',NULL,'{"currency":"EUR","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":6,"payment_method":"pm_ok","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO "events" VALUES(45,'01a2007f-5498-7003-b7ff-3d97758a99d4','01a2007f-5498-7001-b677-f66ea8921f1c',2,1795304674456,'default','stock.reserved','local','order.create','01a2007f-5497-72b8-b149-99f40a7ab42f',NULL,'{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO "events" VALUES(46,'01a2007f-54a1-7001-85ab-34d307c630a2','01a2007f-5498-7001-b677-f66ea8921f1c',3,1795304674465,'default','payment.authorized','worker','authorize_payment','01a2007f-5497-72b8-b149-99f40a7ab42f',1,'{"amount":1250,"provider":"sandbox","reference":"sandbox_01a2007f549f7455bc42536d117e3c4d"}');
INSERT INTO "events" VALUES(47,'01a2007f-54a1-7002-935d-36461a6a2df0','01a2007f-5498-7001-b677-f66ea8921f1c',4,1795304674465,'default','order.processing','worker','authorize_payment','01a2007f-5497-72b8-b149-99f40a7ab42f',1,'{}');
INSERT INTO "events" VALUES(48,'01a2007f-54a7-7002-9ac6-d476bf9790aa','01a2007f-5498-7001-b677-f66ea8921f1c',5,1795304674471,'default','shipment.created','worker','request_shipment','01a2007f-5497-72b8-b149-99f40a7ab42f',1,'{"shipment":{"carrier":"sandbox","delivered_at":null,"id":"01a2007f-54a7-7001-9e1c-d3cf3061fef0","items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}],"shipped_at":null,"status":"label_created","tracking_number":"SBX7484B6F6430F318B0C62"}}');
INSERT INTO "events" VALUES(49,'01a2007f-550e-7001-a3de-50e7ea09686f','01a2007f-5498-7001-b677-f66ea8921f1c',6,1795304674574,'default','order.cancelled','local','order.cancel','01a2007f-550c-764c-a46a-14f0f6a648c8',NULL,'{"reason":"operator_request"}');
INSERT INTO "events" VALUES(50,'01a2007f-550e-7002-8b00-027c67f3a8eb','01a2007f-5498-7001-b677-f66ea8921f1c',7,1795304674574,'default','stock.released','local','order.cancel','01a2007f-550c-764c-a46a-14f0f6a648c8',NULL,'{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO "events" VALUES(51,'01a2007f-550e-7003-b4fe-b38565ef48de','01a2007f-5498-7001-b677-f66ea8921f1c',8,1795304674574,'default','shipment.cancelled','local','order.cancel','01a2007f-550c-764c-a46a-14f0f6a648c8',NULL,'{"shipment_id":"01a2007f-54a7-7001-9e1c-d3cf3061fef0"}');
INSERT INTO "events" VALUES(52,'01a2007f-5517-7001-a5dc-11ec49b3a536','01a2007f-5498-7001-b677-f66ea8921f1c',9,1795304674583,'default','payment.voided','worker','void_payment','01a2007f-550c-764c-a46a-14f0f6a648c8',1,'{"reference":"sandbox_01a2007f549f7455bc42536d117e3c4d"}');
INSERT INTO "events" VALUES(53,'01a2007f-5584-7001-bdd6-bfc09b4644dd','01a2007f-5498-7001-b677-f66ea8921f1c',10,1795304674692,'default','order.deleted','local','order.delete','01a2007f-5583-77ee-9262-11362641f693',NULL,'{}');
INSERT INTO "events" VALUES(54,'01a2007f-5977-7002-9d9a-2d78a6e7ad52','01a2007f-5977-7001-a6e3-30382053e715',1,1795304675703,'default','order.created','local','order.create','01a2007f-5976-73ba-91df-042d741078eb',NULL,'{"currency":"EUR","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"items":[{"name":"A mug","quantity":3,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":7,"payment_method":"pm_slow","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":3750}');
INSERT INTO "events" VALUES(55,'01a2007f-5977-7003-910c-615363da7402','01a2007f-5977-7001-a6e3-30382053e715',2,1795304675703,'default','stock.reserved','local','order.create','01a2007f-5976-73ba-91df-042d741078eb',NULL,'{"items":[{"quantity":3,"sku":"mug","warehouse":"berlin"}]}');
INSERT INTO "events" VALUES(56,'01a2007f-5c3b-7002-9dbe-795c3f6109c5','01a2007f-5c3b-7001-b451-fcb37bd1fc8d',1,1795304676411,'default','order.created','local','order.create','01a2007f-5c3a-759c-b60d-0154f9935b4f',NULL,'{"currency":"EUR","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"items":[{"name":"A mug","quantity":1,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{},"number":8,"payment_method":"pm_slow","payment_provider":"sandbox","shipping_address":null,"storefront":"default","total":1250}');
INSERT INTO "events" VALUES(57,'01a2007f-5c3b-7003-9c98-0510f2478465','01a2007f-5c3b-7001-b451-fcb37bd1fc8d',2,1795304676411,'default','stock.reserved','local','order.create','01a2007f-5c3a-759c-b60d-0154f9935b4f',NULL,'{"items":[{"quantity":1,"sku":"mug","warehouse":"berlin"}]}');
CREATE TABLE idempotency (
    key         TEXT    PRIMARY KEY,
    fingerprint TEXT    NOT NULL,
    answer      TEXT,
    outcome     TEXT,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "idempotency" VALUES('*/customer.block/message/01a2007f-5589-73ef-af08-b877ce99cece','aTQUFCsZm-fQV5n5_hVdM-jZxdw_hRURjex6x87rGVE','{"customer":"01a2007f-4588-7001-8988-fc7629d3c13c"}',NULL,1795909474698);
INSERT INTO "idempotency" VALUES('*/customer.create/message/01a2007f-4582-77ac-b6c9-d04ca2a0a97e','7fB-YowiUOvWRyzm3ireB_zaBOCrO4SC8ZrrIZn1iN8','{"customer":"01a2007f-4583-7001-9dd5-909149e9f5fd"}',NULL,1795909470595);
INSERT INTO "idempotency" VALUES('*/customer.create/message/01a2007f-4587-736f-84a8-d0e56c2b3c37','APQ6RERhrjPsBuyxqMJRNtYoUo5szN-ItSxiTid2vOI','{"customer":"01a2007f-4588-7001-8988-fc7629d3c13c"}',NULL,1795909470600);
INSERT INTO "idempotency" VALUES('*/order.cancel/message/01a2007f-5422-72f8-97df-1f8906628143','OaQDtOVdfNH1_1Gly9umgj_RKfaKjFC5p7_-Mb-Gf3Y','{"order":"01a2007f-53ab-7001-b93a-a0f152318992"}',NULL,1795909474339);
INSERT INTO "idempotency" VALUES('*/order.cancel/message/01a2007f-550c-764c-a46a-14f10e8c2d3f','-608FAzsDBDXcT--RzCJ3z6BBZjZaL3VdF4WfCxPIOg','{"order":"01a2007f-5498-7001-b677-f66ea8921f1c"}',NULL,1795909474574);
INSERT INTO "idempotency" VALUES('*/order.create/key/first-key','-qFiZUnT9a_7c_J4z8ywwXC_JstDzbSs3tfvsxqIJFw','{"order":"01a2007f-458c-7001-9fd7-c6921c5485ba"}','{"status":"SUCCESS","value":{"cancel_reason":null,"created_at":"2026-11-21T23:44:30.604Z","currency":"EUR","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","deleted_at":null,"external_id":null,"id":"01a2007f-458c-7001-9fd7-c6921c5485ba","in_progress":{"attempt":1,"due_at":"2026-11-21T23:44:30.604Z","step":"authorize_payment"},"is_deleted":false,"items":[{"name":"A mug","quantity":2,"sku":"mug","unit_price":1250,"warehouse":"berlin"}],"metadata":{"a":1},"number":1,"payment":{"authorized":0,"captured":0,"provider":"sandbox","reference":null,"refunded":0,"status":"pending"},"shipments":[],"shipping_address":{"city":"Berlin","country":"DE","line1":"1 Street","name":"Ada","postal_code":"1"},"status":"pending","storefront":"default","total":2500,"updated_at":"2026-11-21T23:44:30.604Z","version":2}}',1795909470604);
INSERT INTO "idempotency" VALUES('*/order.create/message/01a2007f-467e-7516-8766-602895cbc5d1','SOT7eGPWx6a1qRGOPMFJRDGJbAvwy2GLqfpUd3yHm4E','{"order":"01a2007f-467f-7001-9626-e628a782c500"}',NULL,1795909470847);
INSERT INTO "idempotency" VALUES('*/order.create/message/01a2007f-4ed0-7242-954a-4d98ed7a8435','YDkUAuVvaIryqcSgwJPbiaY9h13hDt8ZrW6qCD_fJ5U','{"order":"01a2007f-4ed2-7001-a079-9d85ac39d9d5"}',NULL,1795909472978);
INSERT INTO "idempotency" VALUES('*/order.create/message/01a2007f-532e-71c5-84a9-c95744dca702','VIRh3j-nMT6CPHXBJWsdvv_ebkzPd--Y9XYjiw8Sb-E','{"order":"01a2007f-5330-7001-bf4f-29e6583b9912"}',NULL,1795909474096);
INSERT INTO "idempotency" VALUES('*/order.create/message/01a2007f-53a8-724e-b100-075c251d1aea','SOT7eGPWx6a1qRGOPMFJRDGJbAvwy2GLqfpUd3yHm4E','{"order":"01a2007f-53ab-7001-b93a-a0f152318992"}',NULL,1795909474219);
INSERT INTO "idempotency" VALUES('*/order.create/message/01a2007f-5497-72b8-b149-99f5137d671e','SOT7eGPWx6a1qRGOPMFJRDGJbAvwy2GLqfpUd3yHm4E','{"order":"01a2007f-5498-7001-b677-f66ea8921f1c"}',NULL,1795909474456);
INSERT INTO "idempotency" VALUES('*/order.create/message/01a2007f-5976-73ba-91df-042e587fbdbe','-Eo1QTbFR5_FCmbv329ai8DQJZbcxM0fqSd5iyF41S4','{"order":"01a2007f-5977-7001-a6e3-30382053e715"}',NULL,1795909475703);
INSERT INTO "idempotency" VALUES('*/order.create/message/01a2007f-5c3a-759c-b60d-01555cb3bd12','1U5rM9wwDlJr6SCOAJfVkCPl3bRIXOwRacmH1bOnvdo','{"order":"01a2007f-5c3b-7001-b451-fcb37bd1fc8d"}',NULL,1795909476411);
INSERT INTO "idempotency" VALUES('*/order.delete/message/01a2007f-5583-77ee-9262-1137bd97d92d','-608FAzsDBDXcT--RzCJ3z6BBZjZaL3VdF4WfCxPIOg','{"order":"01a2007f-5498-7001-b677-f66ea8921f1c"}',NULL,1795909474692);
INSERT INTO "idempotency" VALUES('*/product.create/message/01a2007f-456b-7315-a212-6811147a1f32','VZpTjC1SE-EO2gaYnRv5Mz98AQZIhZq_p9tS9mFbttU','{"product":"mug"}',NULL,1795909470573);
INSERT INTO "idempotency" VALUES('*/product.create/message/01a2007f-4572-73a9-84fe-40e9e2f4de75','Px-9v59Mv0iSPN8QpJOVQRQPhot1OxpLrUl_QF8eujo','{"product":"tee"}',NULL,1795909470579);
INSERT INTO "idempotency" VALUES('*/shipment.update/message/first-1','','{"order":"01a2007f-458c-7001-9fd7-c6921c5485ba"}',NULL,1795909470719);
INSERT INTO "idempotency" VALUES('*/shipment.update/message/first-2','','{"order":"01a2007f-458c-7001-9fd7-c6921c5485ba"}',NULL,1795909470833);
INSERT INTO "idempotency" VALUES('*/shipment.update/message/first-3','','{"order":"01a2007f-467f-7001-9626-e628a782c500"}',NULL,1795909470962);
INSERT INTO "idempotency" VALUES('*/stock.set/message/01a2007f-4576-712e-9991-696c04f942c9','Urjbli6sL-YdOomDamKTkjFgItRR0jQpBuefVPPVQZ4','{"product":"mug"}',NULL,1795909470583);
INSERT INTO "idempotency" VALUES('*/stock.set/message/01a2007f-457a-75ca-971b-c80fb894fb77','JSueFKfzrW8oYVxLyHMSNEDqPt1_sC5GrJDQvO4tbTg','{"product":"tee"}',NULL,1795909470587);
INSERT INTO "idempotency" VALUES('*/stock.set/message/01a2007f-457e-769b-9da1-2f5912789f02','iC0WR-yzRj7iiGy4O9HIN4BuxMO1kP5hPztU5D9XKEw','{"product":"tee"}',NULL,1795909470591);
CREATE TABLE order_items (
    sku        TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    PRIMARY KEY (sku, created_at, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "order_items" VALUES('mug',1795304670604,1);
INSERT INTO "order_items" VALUES('mug',1795304670847,2);
INSERT INTO "order_items" VALUES('mug',1795304672978,3);
INSERT INTO "order_items" VALUES('mug',1795304674096,4);
INSERT INTO "order_items" VALUES('mug',1795304674219,5);
INSERT INTO "order_items" VALUES('mug',1795304674456,6);
INSERT INTO "order_items" VALUES('mug',1795304675703,7);
INSERT INTO "order_items" VALUES('mug',1795304676411,8);
INSERT INTO "order_items" VALUES('tee',1795304672978,3);
CREATE TABLE orders (
    number      INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    storefront  TEXT    NOT NULL,
    customer_id TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    is_deleted  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    state       TEXT    NOT NULL
) STRICT;
INSERT INTO "orders" VALUES(1,'01a2007f-458c-7001-9fd7-c6921c5485ba','default','01a2007f-4583-7001-9dd5-909149e9f5fd','delivered',0,1795304670604,'{"id":"01a2007f-458c-7001-9fd7-c6921c5485ba","number":1,"storefront":"default","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"status":"delivered","cancel_reason":null,"currency":"EUR","total":2500,"items":[{"sku":"mug","name":"A mug","quantity":2,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":{"city":"Berlin","country":"DE","line1":"1 Street","name":"Ada","postal_code":"1"},"payment_method":"pm_ok","payment":{"status":"captured","provider":"sandbox","reference":"sandbox_01a2007f45967065a6187255ced4931b","authorized":2500,"captured":2500,"refunded":0},"shipments":[{"id":"01a2007f-459c-7001-a872-0df41aa73396","status":"delivered","carrier":"DHL","tracking_number":"SBX77B18827B3245CC76CCF","items":[{"sku":"mug","warehouse":"berlin","quantity":2}],"shipped_at":"2026-11-21T23:44:30.719Z","delivered_at":"2026-11-21T23:44:30.833Z"}],"metadata":{"a":1},"version":10,"is_deleted":false,"created_at":"2026-11-21T23:44:30.604Z","updated_at":"2026-11-21T23:44:30.833Z","deleted_at":null}');
INSERT INTO "orders" VALUES(2,'01a2007f-467f-7001-9626-e628a782c500','default','01a2007f-4583-7001-9dd5-909149e9f5fd','shipped',0,1795304670847,'{"id":"01a2007f-467f-7001-9626-e628a782c500","number":2,"storefront":"default","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"status":"shipped","cancel_reason":null,"currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":null,"payment_method":"pm_ok","payment":{"status":"captured","provider":"sandbox","reference":"sandbox_01a2007f46867221a1a1c33516fb02a3","authorized":1250,"captured":1250,"refunded":0},"shipments":[{"id":"01a2007f-468b-7001-ac29-7ae77f16f26e","status":"shipped","carrier":"DHL","tracking_number":"SBX7199A666594761600EF6","items":[{"sku":"mug","warehouse":"berlin","quantity":1}],"shipped_at":"2026-11-21T23:44:30.962Z","delivered_at":null}],"metadata":{},"version":8,"is_deleted":false,"created_at":"2026-11-21T23:44:30.847Z","updated_at":"2026-11-21T23:44:30.969Z","deleted_at":null}');
INSERT INTO "orders" VALUES(3,'01a2007f-4ed2-7001-a079-9d85ac39d9d5','default','01a2007f-4583-7001-9dd5-909149e9f5fd','processing',0,1795304672978,'{"id":"01a2007f-4ed2-7001-a079-9d85ac39d9d5","number":3,"storefront":"default","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"status":"processing","cancel_reason":null,"currency":"EUR","total":13244,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"},{"sku":"tee","name":"A tee","quantity":5,"unit_price":1999,"warehouse":"berlin"},{"sku":"tee","name":"A tee","quantity":1,"unit_price":1999,"warehouse":"paris"}],"held":[{"sku":"mug","warehouse":"berlin","quantity":1},{"sku":"tee","warehouse":"berlin","quantity":5},{"sku":"tee","warehouse":"paris","quantity":1}],"shipping_address":null,"payment_method":"pm_ok","payment":{"status":"authorized","provider":"sandbox","reference":"sandbox_01a2007f4eda71f18c451673e7564bb3","authorized":13244,"captured":0,"refunded":0},"shipments":[{"id":"01a2007f-4ee1-7001-b2a7-5bf1916cf27a","status":"label_created","carrier":"sandbox","tracking_number":"SBX7339A8CD09F036D38081","items":[{"sku":"mug","warehouse":"berlin","quantity":1},{"sku":"tee","warehouse":"berlin","quantity":5}],"shipped_at":null,"delivered_at":null},{"id":"01a2007f-4ee4-7001-bb71-4dc79a837a97","status":"label_created","carrier":"sandbox","tracking_number":"SBX768B9D3F51616C937FFE","items":[{"sku":"tee","warehouse":"paris","quantity":1}],"shipped_at":null,"delivered_at":null}],"metadata":{},"version":6,"is_deleted":false,"created_at":"2026-11-21T23:44:32.978Z","updated_at":"2026-11-21T23:44:32.996Z","deleted_at":null}');
INSERT INTO "orders" VALUES(4,'01a2007f-5330-7001-bf4f-29e6583b9912','default','01a2007f-4583-7001-9dd5-909149e9f5fd','cancelled',0,1795304674096,'{"id":"01a2007f-5330-7001-bf4f-29e6583b9912","number":4,"storefront":"default","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"status":"cancelled","cancel_reason":"payment_declined","currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":null,"payment_method":"pm_declined","payment":{"status":"failed","provider":"sandbox","reference":null,"authorized":0,"captured":0,"refunded":0},"shipments":[],"metadata":{},"version":5,"is_deleted":false,"created_at":"2026-11-21T23:44:34.096Z","updated_at":"2026-11-21T23:44:34.106Z","deleted_at":null}');
INSERT INTO "orders" VALUES(5,'01a2007f-53ab-7001-b93a-a0f152318992','default','01a2007f-4583-7001-9dd5-909149e9f5fd','cancelled',0,1795304674219,'{"id":"01a2007f-53ab-7001-b93a-a0f152318992","number":5,"storefront":"default","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"status":"cancelled","cancel_reason":"operator_request","currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":null,"payment_method":"pm_ok","payment":{"status":"voided","provider":"sandbox","reference":"sandbox_01a2007f53b374ddb4356b8930f25992","authorized":1250,"captured":0,"refunded":0},"shipments":[{"id":"01a2007f-53bb-7001-a291-85b061a2bf6b","status":"cancelled","carrier":"sandbox","tracking_number":"SBX70499682C323EB802166","items":[{"sku":"mug","warehouse":"berlin","quantity":1}],"shipped_at":null,"delivered_at":null}],"metadata":{},"version":9,"is_deleted":false,"created_at":"2026-11-21T23:44:34.219Z","updated_at":"2026-11-21T23:44:34.349Z","deleted_at":null}');
INSERT INTO "orders" VALUES(6,'01a2007f-5498-7001-b677-f66ea8921f1c','default','01a2007f-4583-7001-9dd5-909149e9f5fd','cancelled',1,1795304674456,'{"id":"01a2007f-5498-7001-b677-f66ea8921f1c","number":6,"storefront":"default","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"status":"cancelled","cancel_reason":"operator_request","currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[],"shipping_address":null,"payment_method":"pm_ok","payment":{"status":"voided","provider":"sandbox","reference":"sandbox_01a2007f549f7455bc42536d117e3c4d","authorized":1250,"captured":0,"refunded":0},"shipments":[{"id":"01a2007f-54a7-7001-9e1c-d3cf3061fef0","status":"cancelled","carrier":"sandbox","tracking_number":"SBX7484B6F6430F318B0C62","items":[{"sku":"mug","warehouse":"berlin","quantity":1}],"shipped_at":null,"delivered_at":null}],"metadata":{},"version":10,"is_deleted":true,"created_at":"2026-11-21T23:44:34.456Z","updated_at":"2026-11-21T23:44:34.692Z","deleted_at":"2026-11-21T23:44:34.692Z"}');
INSERT INTO "orders" VALUES(7,'01a2007f-5977-7001-a6e3-30382053e715','default','01a2007f-4583-7001-9dd5-909149e9f5fd','pending',0,1795304675703,'{"id":"01a2007f-5977-7001-a6e3-30382053e715","number":7,"storefront":"default","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"status":"pending","cancel_reason":null,"currency":"EUR","total":3750,"items":[{"sku":"mug","name":"A mug","quantity":3,"unit_price":1250,"warehouse":"berlin"}],"held":[{"sku":"mug","warehouse":"berlin","quantity":3}],"shipping_address":null,"payment_method":"pm_slow","payment":{"status":"pending","provider":"sandbox","reference":null,"authorized":0,"captured":0,"refunded":0},"shipments":[],"metadata":{},"version":2,"is_deleted":false,"created_at":"2026-11-21T23:44:35.703Z","updated_at":"2026-11-21T23:44:35.703Z","deleted_at":null}');
INSERT INTO "orders" VALUES(8,'01a2007f-5c3b-7001-b451-fcb37bd1fc8d','default','01a2007f-4583-7001-9dd5-909149e9f5fd','pending',0,1795304676411,'{"id":"01a2007f-5c3b-7001-b451-fcb37bd1fc8d","number":8,"storefront":"default","customer_id":"01a2007f-4583-7001-9dd5-909149e9f5fd","external_id":null,"status":"pending","cancel_reason":null,"currency":"EUR","total":1250,"items":[{"sku":"mug","name":"A mug","quantity":1,"unit_price":1250,"warehouse":"berlin"}],"held":[{"sku":"mug","warehouse":"berlin","quantity":1}],"shipping_address":null,"payment_method":"pm_slow","payment":{"status":"pending","provider":"sandbox","reference":null,"authorized":0,"captured":0,"refunded":0},"shipments":[],"metadata":{},"version":2,"is_deleted":false,"created_at":"2026-11-21T23:44:36.411Z","updated_at":"2026-11-21T23:44:36.411Z","deleted_at":null}');
CREATE TABLE products (
    sku        TEXT    PRIMARY KEY,
    is_deleted INTEGER NOT NULL,
    state      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "products" VALUES('mug',0,'{"details":{"sku":"mug","name":"A mug","price":1250,"currency":"EUR","image_urls":[]},"is_deleted":false,"version":2,"created_at":"2026-11-21T23:44:30.573Z","updated_at":"2026-11-21T23:44:30.583Z"}');
INSERT INTO "products" VALUES('tee',0,'{"details":{"sku":"tee","name":"A tee","price":1999,"currency":"EUR","image_urls":[]},"is_deleted":false,"version":3,"created_at":"2026-11-21T23:44:30.579Z","updated_at":"2026-11-21T23:44:30.591Z"}');
CREATE TABLE relay (
    name     TEXT    PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "relay" VALUES('events',55);
INSERT INTO "relay" VALUES('probe',0);
CREATE TABLE shelves (
    sku       TEXT    NOT NULL,
    warehouse TEXT    NOT NULL,
    on_hand   INTEGER NOT NULL,
    reserved  INTEGER NOT NULL,
    PRIMARY KEY (sku, warehouse),
    CHECK (0 <= reserved AND reserved <= on_hand)
) STRICT, WITHOUT ROWID;
INSERT INTO "shelves" VALUES('mug','berlin',97,5);
INSERT INTO "shelves" VALUES('tee','berlin',5,5);
INSERT INTO "shelves" VALUES('tee','paris',5,1);
CREATE TABLE steps (
    order_id   TEXT    NOT NULL,
    step       TEXT    NOT NULL,
    attempt    INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    -- When its message is to be sent, or sent again should nothing have come of it; null when dead.
    publish_at INTEGER,
    last_error TEXT,
    request_id TEXT    NOT NULL, failures INTEGER NOT NULL DEFAULT 0, put_at INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (order_id, step)
) STRICT, WITHOUT ROWID;
INSERT INTO "steps" VALUES('01a2007f-5977-7001-a6e3-30382053e715','authorize_payment',1,1795304675703,1795304705703,NULL,'01a2007f-5976-73ba-91df-042d741078eb',0,1795304675703);
INSERT INTO "steps" VALUES('01a2007f-5977-7001-a6e3-30382053e715','expire_order',1,1795306475703,1795306475703,NULL,'01a2007f-5976-73ba-91df-042d741078eb',0,1795304675703);
INSERT INTO "steps" VALUES('01a2007f-5c3b-7001-b451-fcb37bd1fc8d','authorize_payment',1,1795304676411,1795304706411,NULL,'01a2007f-5c3a-759c-b60d-0154f9935b4f',0,1795304676411);
INSERT INTO "steps" VALUES('01a2007f-5c3b-7001-b451-fcb37bd1fc8d','expire_order',1,1795306476411,1795306476411,NULL,'01a2007f-5c3a-759c-b60d-0154f9935b4f',0,1795304676411);
CREATE INDEX orders_by_created ON orders (created_at);
CREATE INDEX orders_by_storefront ON orders (storefront, created_at);
CREATE INDEX orders_by_status ON orders (status, created_at);
CREATE INDEX orders_by_customer ON orders (customer_id, created_at);
CREATE INDEX customers_by_storefront ON customers (storefront, id);
CREATE INDEX steps_by_publish_at ON steps (publish_at) WHERE publish_at IS NOT NULL;
CREATE UNIQUE INDEX events_by_subject ON events (subject, sequence);
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);
CREATE INDEX dead_steps ON steps (due_at, order_id, step) WHERE publish_at IS NULL;
CREATE INDEX dead_letters_by_time ON dead_letters (received_at, id);
COMMIT;
PRAGMA user_version = 0;
