// Everything on disk that the processes of a local cluster need before the first of them starts.

import Crypto
import Foundation
import Ledger

/// A local cluster whose files are all there.
struct PreparedCluster: Sendable {
    /// Names of database roles that nodes log in as.
    static let roles = ["zegel_edge", "zegel_worker", "zegel_api", "zegel_admin"]

    let layout: ClusterLayout
    let plan: ClusterPlan
    let region: RegionPlan
    let postgres: PostgresInstance
    let passwords: [String: String]
    let demo: DemoTenant
    let root: Curve25519.Signing.PrivateKey

    /// Makes what is missing and writes what may have changed.
    /// - Parameter say: told what takes long.
    init(layout: ClusterLayout, plan: ClusterPlan, say: (String) -> Void) async throws(ClusterError) {
        self.layout = layout
        self.plan = plan
        guard let region = plan.regions.first else {
            throw ClusterError(.state, "\(layout.plan) names no region")
        }
        self.region = region

        for folder in [
            layout.secrets, layout.keyring, layout.config, layout.logs, layout.directory + "/nodes",
        ] {
            try ClusterFiles.folder(folder, mode: 0o700)
        }
        for folder in [layout.certificates, layout.sockets] { try ClusterFiles.folder(folder, mode: 0o755) }
        try ClusterFiles.ownFolder(layout.sockets)

        postgres = try await PostgresInstance(layout: layout, region: region)
        if access(layout.data + "/PG_VERSION", F_OK) != 0 { say("making the database") }
        try await postgres.prepare()

        var passwords: [String: String] = [:]
        for role in Self.roles + [PostgresInstance.superuser] {
            passwords[role] = try ClusterFiles.keptSecret(layout.password(of: role))
        }
        self.passwords = passwords
        demo = try DemoTenant(layout: layout, ruleset: plan.ruleset)
        root = try Self.root(layout)

        let identity = try LocalAuthority(folder: layout.certificates).identity(
            "server", names: ["localhost", ProcessInfo.processInfo.hostName].filter { !$0.isEmpty },
            addresses: [region.address])
        try NodeConfiguration(
            plan: plan, layout: layout, rootPublic: root.publicKey.rawRepresentation.base64EncodedString(),
            databases: passwords.reduce(into: [:]) {
                $0[$1.key] = postgres.conninfo(role: $1.key, password: $1.value)
            },
            identity: identity
        ).write()
        try ClusterFiles.write(
            NodeConfiguration.yaml([
                ("client.url", endpoints.regions.first?.api ?? ""),
                ("client.key_file", layout.secrets + "/api.key"),
                ("client.authority", layout.authority), ("node.region", region.name),
            ]), to: layout.configuration(of: "client"))
        try ClusterFiles.write(
            NodeConfiguration.yaml([
                (
                    "control.dsn",
                    postgres.conninfo(
                        role: PostgresInstance.superuser,
                        password: passwords[PostgresInstance.superuser] ?? "")
                )
            ]), to: layout.configuration(of: "owner"))
    }

    /// Where everything will listen, without process ids.
    var endpoints: Endpoints {
        func addresses(_ use: String) -> [String] {
            region.nodes.compactMap { $0.ports[use] }.map { "\(region.address):\($0)" }
        }
        return Endpoints(
            ca: layout.authority, apiKey: demo.key.text, smtpUser: demo.user, smtpPassword: demo.password,
            regions: [
                Endpoints.Region(
                    name: region.name, smtp: addresses("smtp"), smtps: addresses("smtps"),
                    api: addresses("https").first.map { "https://" + $0 } ?? "",
                    metrics: addresses("metrics").map { "http://" + $0 },
                    postgres: [
                        postgres.url(
                            role: PostgresInstance.superuser,
                            password: passwords[PostgresInstance.superuser] ?? "")
                    ], pids: [:])
            ])
    }

    /// What the supervisor runs, in the order of starting.
    /// - Parameter programs: the folder of Zegel's executables.
    func children(programs: String) -> [SupervisedProgram] {
        var database = SupervisedProgram(
            name: "postgres", role: .postgres, specification: postgres.specification)
        // Fast stop: sessions are cut, a checkpoint is written. If that takes too long, an immediate one.
        database.stopSignal = SIGINT
        database.forceSignal = SIGQUIT
        database.grace = .seconds(6)

        func program(
            _ name: String, _ role: NodeRole, _ executable: String, _ arguments: [String], _ grace: Int
        )
            -> SupervisedProgram
        {
            var child = ChildSpecification(
                programs + "/" + executable, arguments, output: .file(layout.log(of: name)))
            child.directory = layout.directory
            return SupervisedProgram(name: name, role: role, specification: child, grace: .seconds(grace))
        }
        let keyring = program(
            "keyring", .keyring, "zegel", ["keyring", "serve", "--dir", layout.directory], 2)
        let nodes = region.nodes.map { node in
            program(
                node.name, node.role, "zegel-\(node.role.rawValue)",
                ["--config", layout.configuration(of: node.name)],
                node.role == .api ? 4 : 8)
        }
        return [database, keyring] + nodes
    }

    private static func root(_ layout: ClusterLayout) throws(ClusterError) -> Curve25519.Signing.PrivateKey {
        let path = layout.secrets + "/root.key"
        if let text = try ClusterFiles.text(path) {
            guard let bytes = Data(base64Encoded: text),
                let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: bytes)
            else { throw ClusterError(.state, "\(path) is damaged") }
            return key
        }
        let key = Curve25519.Signing.PrivateKey()
        try ClusterFiles.write(key.rawRepresentation.base64EncodedString() + "\n", to: path)
        return key
    }
}

/// The tenant that a local cluster begins with.
struct DemoTenant: Sendable {
    static let id = "demo"
    static let domain = "demo.test"
    let user = "demo"
    let password: String
    let key: APIKeyText
    let ruleset: String

    init(layout: ClusterLayout, ruleset: String) throws(ClusterError) {
        self.ruleset = ruleset
        password = try ClusterFiles.keptSecret(layout.secrets + "/smtp.password")
        let keyPath = layout.secrets + "/api.key"
        if let text = try ClusterFiles.text(keyPath) {
            guard let kept = APIKeyText(text) else { throw ClusterError(.state, "\(keyPath) is damaged") }
            key = kept
        } else {
            key = APIKeyText(id: UUID(), secret: ClusterFiles.secret(bytes: 32))
            try ClusterFiles.write(key.text + "\n", to: keyPath)
        }
    }
}
