// endpoints.json: where everything of a local cluster listens. Tools and tests read it; its shape is a contract.

import Foundation

/// The content of `DIR/endpoints.json`.
public struct Endpoints: Sendable, Codable, Equatable {
    /// One site.
    public struct Region: Sendable, Codable, Equatable {
        /// Its name.
        public var name: String
        /// `host:port` of each edge's SMTP listener (STARTTLS).
        public var smtp: [String]
        /// `host:port` of each edge's listener with TLS from the first byte.
        public var smtps: [String]
        /// The base URL of the API.
        public var api: String
        /// The base URL of each node's metrics, in the order edges, workers, api.
        public var metrics: [String]
        /// A connection string of each ledger member, as the database's superuser.
        public var postgres: [String]
        /// Process ids by role; a role without a living process has an empty list.
        public var pids: [String: [Int32]]
    }

    /// The path of the authority's certificate (PEM) that signed the certificates of edges and api.
    public var ca: String
    /// An API key with every scope of the tenant `demo`.
    public var apiKey: String
    /// The SMTP user of the tenant `demo`.
    public var smtpUser: String
    /// Its password.
    public var smtpPassword: String
    /// The sites.
    public var regions: [Region]

    enum CodingKeys: String, CodingKey {
        case ca
        case apiKey = "api_key"
        case smtpUser = "smtp_user"
        case smtpPassword = "smtp_password"
        case regions
    }

    /// The roles that `pids` names, always all of them.
    public static let roles = [
        "supervisor", "edge", "worker", "api", "keyring", "postgres", "patroni", "etcd",
    ]

    /// The endpoints kept at `path`.
    /// - Throws: `state` when there is no cluster or the file is not of this shape.
    public static func load(_ path: String) throws(ClusterError) -> Endpoints {
        guard let bytes = try ClusterFiles.read(path) else {
            throw ClusterError(.state, "\(path) is not there: is the cluster up? (zegel local up --dir DIR)")
        }
        do {
            return try JSONDecoder().decode(Endpoints.self, from: Data(bytes))
        } catch {
            throw ClusterError(.state, "\(path) cannot be read: \(error.localizedDescription)")
        }
    }

    /// The file's text.
    public func encoded() throws(ClusterError) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else {
            throw ClusterError(.state, "cannot encode the endpoints")
        }
        return String(decoding: data, as: UTF8.self) + "\n"
    }

    /// Replaces the file at `path` in one step; only its owner can read it.
    public func save(_ path: String) throws(ClusterError) {
        try ClusterFiles.write(try encoded(), to: path, mode: 0o600, durable: false)
    }
}
