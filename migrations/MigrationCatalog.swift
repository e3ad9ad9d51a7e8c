/// One step of the ledger's schema: a file `NNNN_name.sql` of this folder, compiled into every executable so that a node knows
/// which schema it speaks.
public struct Migration: Sendable {
    /// Counts from 1 without gaps.
    public let version: Int32
    /// The file's name without number and suffix.
    public let name: String
    /// The file's bytes.
    public let sql: [UInt8]

    /// One step.
    public init(_ version: Int32, _ name: String, _ sql: [UInt8]) {
        self.version = version
        self.name = name
        self.sql = sql
    }
}

/// Every migration, in order. A migration that has landed is never edited: a change is a new file and a new line here.
public enum MigrationCatalog {
    /// All of them, oldest first. (The generated names lose the first digit of the file.)
    public static let all: [Migration] = [
        Migration(1, "roles", PackageResources._001_roles_sql),
        Migration(2, "control", PackageResources._002_control_sql),
        Migration(3, "ledger", PackageResources._003_ledger_sql),
        Migration(4, "intake", PackageResources._004_intake_sql),
        Migration(5, "work", PackageResources._005_work_sql),
        Migration(6, "evidence", PackageResources._006_evidence_sql),
        Migration(7, "policy_cache", PackageResources._007_policy_cache_sql),
        Migration(8, "edge_rights", PackageResources._008_edge_rights_sql),
        Migration(9, "host_scan", PackageResources._009_host_scan_sql),
        Migration(10, "content_parts", PackageResources._010_content_parts_sql),
        Migration(11, "regions", PackageResources._011_regions_sql),
        Migration(12, "withdrawal", PackageResources._012_withdrawal_sql),
        Migration(13, "replays", PackageResources._013_replays_sql),
        Migration(14, "reading", PackageResources._014_reading_sql),
        Migration(15, "recovery", PackageResources._015_recovery_sql),
        Migration(16, "returned", PackageResources._016_returned_sql),
    ]
}
