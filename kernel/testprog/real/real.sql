PRAGMA journal_mode = WAL;
CREATE TABLE numbers (n INTEGER PRIMARY KEY, text);
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3000)
INSERT INTO numbers SELECT n, hex(n * n) FROM r;
CREATE INDEX by_text ON numbers (text);
BEGIN;
DELETE FROM numbers WHERE n % 3 = 0;
ROLLBACK;
DELETE FROM numbers WHERE n % 7 = 0;
VACUUM;
SELECT count(*), sum(n), min(text), max(text) FROM numbers WHERE text GLOB '3*';
PRAGMA integrity_check;
SELECT * FROM none;
