// PostgreSQL's server programs on this machine, and the user that they run as.

import Foundation

/// Where the programs are and who runs them.
struct PostgresPrograms: Sendable {
    /// The folder of `initdb` and `postgres`.
    let folder: String
    /// The user that they run as; nil: the one at hand.
    let user: MachineUser?

    /// Finds both.
    /// - Throws: `environment` when PostgreSQL, or as root the user `postgres`, is not there.
    init() async throws(ClusterError) {
        folder = try await Self.find()
        if geteuid() == 0 {
            guard let user = MachineUser(named: "postgres") else {
                throw ClusterError(
                    .environment,
                    "PostgreSQL does not run as root and there is no user postgres: install postgresql-15")
            }
            self.user = user
        } else {
            self.user = nil
        }
    }

    /// The folder with `initdb` and `postgres`: that of `pg_config`, else the newest of Debian's.
    private static func find() async throws(ClusterError) -> String {
        var candidates: [String] = []
        for path in ["/usr/bin/pg_config", "/usr/local/bin/pg_config"] where access(path, X_OK) == 0 {
            let said = try? await ChildProcess.run(
                ChildSpecification(path, ["--bindir"], output: .captured), limit: .seconds(10))
            if let said { candidates.append(said.trimmingCharacters(in: .whitespacesAndNewlines)) }
        }
        let debian = "/usr/lib/postgresql"
        let versions = (try? FileManager.default.contentsOfDirectory(atPath: debian)) ?? []
        candidates += versions.compactMap(Int.init).sorted(by: >).map { "\(debian)/\($0)/bin" }
        guard let found = candidates.first(where: { access($0 + "/initdb", X_OK) == 0 }) else {
            throw ClusterError(
                .environment, "PostgreSQL's server programs are not there: apt-get install postgresql-15")
        }
        return found
    }

    /// Makes sure that the user can write to these folders.
    /// - Throws: `environment` with what to do.
    func checkReachable(_ folders: [String]) async throws(ClusterError) {
        guard let user else { return }
        for path in folders {
            var test = ChildSpecification("/usr/bin/test", ["-w", path], output: .captured)
            test.user = user
            do {
                try await ChildProcess.run(test, limit: .seconds(10))
            } catch {
                throw ClusterError(
                    .environment,
                    "PostgreSQL runs as \(user.name), which cannot reach \(path): every folder above it must have the "
                        + "right x for others (chmod o+x), or choose another --dir")
            }
        }
    }

    /// Makes sure that the user can run a program.
    /// - Throws: `environment` with what to do.
    func checkRunnable(_ program: String) async throws(ClusterError) {
        guard let user else { return }
        // A script whose interpreter is out of reach shows it only when it is run.
        var test = ChildSpecification(program, ["--version"], output: .captured)
        test.user = user
        do {
            try await ChildProcess.run(test, limit: .seconds(20))
        } catch {
            throw ClusterError(
                .environment,
                "\(program) runs as \(user.name), who cannot run it (\(error.message)): it, its interpreter and every folder "
                    + "above them must be open to others")
        }
    }
}
