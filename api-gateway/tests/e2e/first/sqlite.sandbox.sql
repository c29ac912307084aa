BEGIN TRANSACTION;
CREATE TABLE movements (
    id      INTEGER PRIMARY KEY,
    payment TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    amount  INTEGER NOT NULL
) STRICT;
INSERT INTO "movements" VALUES(1,'sandbox_01a2007f45967065a6187255ced4931b','authorize',2500);
INSERT INTO "movements" VALUES(2,'sandbox_01a2007f45967065a6187255ced4931b','capture',2500);
INSERT INTO "movements" VALUES(3,'sandbox_01a2007f46867221a1a1c33516fb02a3','authorize',1250);
INSERT INTO "movements" VALUES(4,'sandbox_01a2007f46867221a1a1c33516fb02a3','capture',1250);
INSERT INTO "movements" VALUES(5,'sandbox_01a2007f4eda71f18c451673e7564bb3','authorize',13244);
INSERT INTO "movements" VALUES(6,'sandbox_01a2007f53b374ddb4356b8930f25992','authorize',1250);
INSERT INTO "movements" VALUES(7,'sandbox_01a2007f53b374ddb4356b8930f25992','void',1250);
INSERT INTO "movements" VALUES(8,'sandbox_01a2007f549f7455bc42536d117e3c4d','authorize',1250);
INSERT INTO "movements" VALUES(9,'sandbox_01a2007f549f7455bc42536d117e3c4d','void',1250);
INSERT INTO "movements" VALUES(10,'sandbox_01a2007f597e713a989345dc3e23199f','authorize',3750);
INSERT INTO "movements" VALUES(11,'sandbox_01a2007f5c3f70919edf24eeb9662360','authorize',1250);
CREATE TABLE parcels (
    key             TEXT    PRIMARY KEY,
    order_id        TEXT    NOT NULL,
    tracking_number TEXT    NOT NULL,
    is_cancelled    INTEGER NOT NULL DEFAULT 0,
    -- How many webhooks were delivered, and when the next is due (Unix milliseconds; null: none).
    stage           INTEGER NOT NULL DEFAULT 0,
    next_at         INTEGER
) STRICT;
INSERT INTO "parcels" VALUES('01a2007f-458c-7001-9fd7-c6921c5485ba/request_shipment:berlin','01a2007f-458c-7001-9fd7-c6921c5485ba','SBX77B18827B3245CC76CCF',0,0,NULL);
INSERT INTO "parcels" VALUES('01a2007f-467f-7001-9626-e628a782c500/request_shipment:berlin','01a2007f-467f-7001-9626-e628a782c500','SBX7199A666594761600EF6',0,0,NULL);
INSERT INTO "parcels" VALUES('01a2007f-4ed2-7001-a079-9d85ac39d9d5/request_shipment:berlin','01a2007f-4ed2-7001-a079-9d85ac39d9d5','SBX7339A8CD09F036D38081',0,0,NULL);
INSERT INTO "parcels" VALUES('01a2007f-4ed2-7001-a079-9d85ac39d9d5/request_shipment:paris','01a2007f-4ed2-7001-a079-9d85ac39d9d5','SBX768B9D3F51616C937FFE',0,0,NULL);
INSERT INTO "parcels" VALUES('01a2007f-53ab-7001-b93a-a0f152318992/request_shipment:berlin','01a2007f-53ab-7001-b93a-a0f152318992','SBX70499682C323EB802166',1,0,NULL);
INSERT INTO "parcels" VALUES('01a2007f-5498-7001-b677-f66ea8921f1c/request_shipment:berlin','01a2007f-5498-7001-b677-f66ea8921f1c','SBX7484B6F6430F318B0C62',1,0,NULL);
CREATE TABLE payments (
    key        TEXT    PRIMARY KEY,
    reference  TEXT    NOT NULL UNIQUE,
    -- asked (nothing held yet), authorized, declined, captured, voided
    status     TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    currency   TEXT    NOT NULL,
    captured   INTEGER NOT NULL DEFAULT 0,
    refunded   INTEGER NOT NULL DEFAULT 0,
    -- How often it was asked for under this key.
    calls      INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO "payments" VALUES('01a2007f-458c-7001-9fd7-c6921c5485ba/authorize_payment','sandbox_01a2007f45967065a6187255ced4931b','captured',2500,'EUR',2500,0,1);
INSERT INTO "payments" VALUES('01a2007f-467f-7001-9626-e628a782c500/authorize_payment','sandbox_01a2007f46867221a1a1c33516fb02a3','captured',1250,'EUR',1250,0,1);
INSERT INTO "payments" VALUES('01a2007f-4ed2-7001-a079-9d85ac39d9d5/authorize_payment','sandbox_01a2007f4eda71f18c451673e7564bb3','authorized',13244,'EUR',0,0,1);
INSERT INTO "payments" VALUES('01a2007f-5330-7001-bf4f-29e6583b9912/authorize_payment','sandbox_01a2007f53397447a2c3269f3cefd5d1','declined',1250,'EUR',0,0,1);
INSERT INTO "payments" VALUES('01a2007f-53ab-7001-b93a-a0f152318992/authorize_payment','sandbox_01a2007f53b374ddb4356b8930f25992','voided',1250,'EUR',0,0,1);
INSERT INTO "payments" VALUES('01a2007f-5498-7001-b677-f66ea8921f1c/authorize_payment','sandbox_01a2007f549f7455bc42536d117e3c4d','voided',1250,'EUR',0,0,1);
INSERT INTO "payments" VALUES('01a2007f-5977-7001-a6e3-30382053e715/authorize_payment','sandbox_01a2007f597e713a989345dc3e23199f','authorized',3750,'EUR',0,0,1);
INSERT INTO "payments" VALUES('01a2007f-5c3b-7001-b451-fcb37bd1fc8d/authorize_payment','sandbox_01a2007f5c3f70919edf24eeb9662360','authorized',1250,'EUR',0,0,1);
CREATE INDEX movements_by_payment ON movements (payment);
CREATE INDEX parcels_by_next_at ON parcels (next_at) WHERE next_at IS NOT NULL;
COMMIT;
PRAGMA user_version = 0;
