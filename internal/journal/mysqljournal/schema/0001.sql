-- The tables of GMQ, version 1. What they mean: docs/mysql.md.
-- Only what MariaDB 10.11, MySQL 8 and TiDB understand alike.

-- Who owns the tables, and how far they have come. Every transaction changes this one row, and only if it still says
-- what its owner believes.
CREATE TABLE gmq_epoch (
  id TINYINT NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL,
  node VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  owner VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  connection BIGINT UNSIGNED NOT NULL,
  beat DATETIME(6) NOT NULL,
  commits BIGINT NOT NULL,
  place BIGINT NOT NULL,
  latest VARBINARY(512) NOT NULL
) ENGINE=InnoDB;

INSERT INTO gmq_epoch VALUES (1, 0, '', '', 0, '2000-01-01 00:00:00', 0, 4096, '');

-- One row for each message that is not settled.
CREATE TABLE gmq_message (
  place BIGINT NOT NULL PRIMARY KEY,
  queue VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  seq BIGINT NOT NULL,
  published DATETIME(6) NOT NULL,
  due DATETIME(6) NULL,
  attempts INT NOT NULL,
  headers LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  body LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  body_place BIGINT NULL,
  head LONGBLOB NULL,
  crc INT UNSIGNED NULL,
  KEY gmq_message_queue (queue, seq)
) ENGINE=InnoDB;

-- What a message holds that was published to a topic: once for all queues that have it.
CREATE TABLE gmq_body (
  place BIGINT NOT NULL PRIMARY KEY,
  headers LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  body LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  head LONGBLOB NULL,
  crc INT UNSIGNED NULL
) ENGINE=InnoDB;

-- What has happened since the newest snapshot, in order.
CREATE TABLE gmq_command (
  shard SMALLINT NOT NULL,
  place BIGINT NOT NULL,
  part INT NOT NULL,
  records LONGBLOB NOT NULL,
  PRIMARY KEY (shard, place, part)
) ENGINE=InnoDB;

-- Snapshots, in parts.
CREATE TABLE gmq_snapshot (
  shard SMALLINT NOT NULL,
  place BIGINT NOT NULL,
  part INT NOT NULL,
  data LONGBLOB NOT NULL,
  PRIMARY KEY (shard, place, part)
) ENGINE=InnoDB;

-- Which snapshot of a shard is whole and the newest: the state after all commands before that place.
CREATE TABLE gmq_shard (
  shard SMALLINT NOT NULL PRIMARY KEY,
  snapshot BIGINT NOT NULL
) ENGINE=InnoDB;

-- Messages as an operator wants to see them.
CREATE VIEW gmq_messages AS
  SELECT m.queue, m.seq, m.published, m.due, m.attempts,
    COALESCE(m.headers, b.headers) AS headers, COALESCE(m.body, b.body) AS body
  FROM gmq_message m LEFT JOIN gmq_body b ON b.place = m.body_place;

-- Messages that applications want to be published: a row that is committed is, one that is rolled back is not.
CREATE TABLE gmq_outbox (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  queue VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  topic VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  body LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  encoding VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  headers LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  message_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  priority TINYINT NULL,
  delay_ms BIGINT NULL,
  ttl_ms BIGINT NULL,
  dedup_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  created DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE=InnoDB;

-- Rows that can never be published, and why.
CREATE TABLE gmq_outbox_error (
  id BIGINT NOT NULL PRIMARY KEY,
  queue VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  topic VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  body LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  encoding VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  headers LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  message_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  priority TINYINT NULL,
  delay_ms BIGINT NULL,
  ttl_ms BIGINT NULL,
  dedup_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  created DATETIME(6) NOT NULL,
  failed DATETIME(6) NOT NULL,
  reason VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
) ENGINE=InnoDB;
