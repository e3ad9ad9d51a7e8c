// Patroni and etcd on this machine.

import Foundation

/// Where the engines of replication are.
struct ReplicationPrograms: Sendable {
    /// `etcd`.
    let etcd: String
    /// `patroni`, version 4.
    let patroni: String

    /// Finds both: on the path, in the virtual environment that `deploy/test` and `deploy/quickstart` make, or where
    /// `ZEGEL_PATRONI` says.
    /// - Throws: `environment` with what to install.
    init() throws(ClusterError) {
        let environment = ProcessInfo.processInfo.environment
        let path =
            (environment["PATH"] ?? "").split(separator: ":").map(String.init)
            + ["/usr/local/bin", "/usr/bin", "/usr/sbin"]
        func find(_ name: String, _ folders: [String]) -> String? {
            folders.map { $0 + "/" + name }.first { access($0, X_OK) == 0 }
        }
        guard let etcd = find("etcd", path) else {
            throw ClusterError(.environment, "several regions need etcd: apt-get install etcd-server")
        }
        self.etcd = etcd
        if let named = environment["ZEGEL_PATRONI"] {
            patroni = named
            return
        }
        // .build/release/zegel → .build/python/bin/patroni; the release folder is a link, so both ways up are tried.
        let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        var above = (program as NSString).deletingLastPathComponent
        var beside: [String] = ["/opt/zegel/python/bin"]
        for _ in 0..<4 {
            beside.append(above + "/python/bin")
            above = (above as NSString).deletingLastPathComponent
        }
        guard let patroni = find("patroni", beside + path) else {
            throw ClusterError(
                .environment,
                "several regions need Patroni 4: deploy/test and deploy/quickstart install it, or python3 -m venv "
                    + "/opt/zegel/python && /opt/zegel/python/bin/pip install 'patroni[etcd3,psycopg3]==4.1.5' "
                    + "psycopg-binary, or name it in ZEGEL_PATRONI")
        }
        self.patroni = patroni
    }
}
