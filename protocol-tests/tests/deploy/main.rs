//! What is in `deploy/` is valid, by the tools of those it is for; and each alert has its page.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests: what is wrong fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use protocol_tests::pooler::binary;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).canonicalize().unwrap()
}

fn deploy(path: &str) -> PathBuf {
    root().join("deploy").join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A tool that `scripts/setup` brings.
fn tool(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `make test`"))
}

/// A program of the tests' Python.
fn of_python(name: &str) -> PathBuf {
    Path::new(&tool("TENANTRY_TEST_PYTHON")).parent().unwrap().join(name)
}

fn files(directory: &str, extension: &str) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(deploy(directory)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ext| ext == extension)).collect()
}

const BASES: [&str; 2] = ["kubernetes/sidecar", "kubernetes/central"];

#[test]
fn manifests_are_valid_by_kubernetes_own_schemas() {
    for base in BASES {
        let manifests: Vec<PathBuf> = files(base, "yaml")
            .into_iter()
            .filter(|path| !path.ends_with("kustomization.yaml"))
            .collect();
        assert!(manifests.len() >= 2, "{manifests:?}");
        // Native sidecars, matchLabelKeys and preStop.sleep are there since 1.30.
        for version in ["1.30", "1.34"] {
            let output = Command::new(of_python("kubernetes-validate"))
                .args(["--strict", "-k", version])
                .args(&manifests)
                .output()
                .unwrap();
            assert!(output.status.success(), "{base}, Kubernetes {version}: {}", said(&output));
        }
    }
    let wrong = tempfile::tempdir().unwrap();
    let path = wrong.path().join("wrong.yaml");
    std::fs::write(
        &path,
        read(deploy("kubernetes/sidecar/deployment.yaml"))
            .replace("restartPolicy:", "restartPolicyy:"),
    )
    .unwrap();
    let output = Command::new(of_python("kubernetes-validate"))
        .args(["--strict", "-k", "1.30"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(!output.status.success(), "a mistake is noticed");
}

#[test]
fn a_kustomization_names_what_lies_beside_it_and_all_of_it() {
    for base in BASES {
        let text = read(deploy(base).join("kustomization.yaml"));
        let listed: BTreeSet<PathBuf> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- "))
            .filter(|name| Path::new(name).extension().is_some())
            .map(|name| deploy(base).join(name))
            .collect();
        let mut there = files(base, "yaml");
        there.extend(files(base, "toml"));
        there.remove(&deploy(base).join("kustomization.yaml"));
        assert_eq!(listed, there, "{base}");
    }
}

#[test]
fn their_configurations_pass_the_check() {
    for base in BASES {
        let directory = tempfile::tempdir().unwrap();
        let secrets = directory.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        // Every key of the Secret is a file of that name.
        let secret = read(deploy(base).join("secret.yaml"));
        let keys = secret.lines().skip_while(|line| *line != "stringData:").skip(1);
        for key in keys.filter_map(|line| line.trim().split_once(':')).map(|(key, _)| key) {
            std::fs::write(secrets.join(key), "secret").unwrap();
        }
        let text = read(deploy(base).join("tenantry.toml"));
        let path = directory.path().join("tenantry.toml");
        std::fs::write(
            &path,
            text.replace("/run/secrets/tenantry", &secrets.display().to_string()),
        )
        .unwrap();
        let output = Command::new(binary()).arg("check").arg(&path).output().unwrap();
        assert!(output.status.success(), "{base}: {}", said(&output));
    }
}

#[test]
fn the_example_of_every_key_passes_the_check() {
    let output = Command::new(binary()).arg("check").arg(deploy("tenantry.toml")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn alerts_are_valid_and_sound_when_they_should() {
    let promtool = tool("TENANTRY_TEST_PROMTOOL");
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]] {
        let output = Command::new(&promtool)
            .args(arguments)
            .current_dir(deploy("prometheus"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    let output = Command::new(&promtool)
        .args(["check", "config", "--syntax-only", "scrape.yaml"])
        .current_dir(deploy("prometheus"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let rules = read(deploy("prometheus/rules.yaml"));
    let of = |key: &str| -> Vec<&str> {
        rules
            .lines()
            .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key))
            .collect()
    };
    let (alerts, urls) = (of("alert: "), of("runbook_url: "));
    assert!(alerts.len() >= 10 && alerts.len() == urls.len());
    let kebab = |name: &str| {
        name.chars()
            .flat_map(
                |c| if c.is_uppercase() { vec!['-', c.to_ascii_lowercase()] } else { vec![c] },
            )
            .skip(1)
            .collect::<String>()
    };
    let mut pages = BTreeSet::new();
    for (alert, url) in alerts.iter().zip(&urls) {
        let page = format!("{}.md", kebab(alert));
        assert!(url.ends_with(&format!("/docs/runbooks/{page}")), "{alert}: {url}");
        let text = read(root().join("docs/runbooks").join(&page));
        assert!(text.starts_with(&format!("# {alert}\n")), "{page}");
        for part in ["## What clients see", "## First", "## When to escalate"] {
            assert!(text.contains(part), "{page}: {part}");
        }
        pages.insert(page);
    }
    let there: BTreeSet<String> = std::fs::read_dir(root().join("docs/runbooks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(pages, there);
}

#[test]
fn grafanas_dashboard_can_be_read_and_its_panels_are_apart() {
    let dashboard: Value = serde_json::from_str(&read(deploy("grafana/tenantry.json"))).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert!(ids.len() == panels.len() && panels.len() > 20);
    let cells = |panel: &Value| {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
        assert!(x + w <= 24, "{panel}");
        (x..x + w).flat_map(move |x| (y..y + h).map(move |y| (x, y))).collect::<Vec<_>>()
    };
    let all: Vec<(u64, u64)> = panels.iter().flat_map(cells).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "two panels overlap");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["name"] == "tenant"));
}

#[test]
fn the_dockerfile_has_no_fault_and_gets_all_that_is_built() {
    let output = Command::new(of_python("hadolint")).arg(deploy("Dockerfile")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // What the build includes lies in what is let in.
    let allowed = read(deploy("Dockerfile.dockerignore"));
    let needed = ["!Cargo.toml", "!Cargo.lock", "!src", "!protocol-tests/Cargo.toml"];
    for needed in needed.into_iter().chain(["!benches/pgo", "!benches/rig.py"]) {
        assert!(allowed.lines().any(|line| line == needed), "{needed}");
    }
}

#[test]
fn the_unit_is_valid_where_systemd_is() {
    let unit = read(deploy("systemd/tenantry.service"))
        .replace("/usr/bin/tenantry", &binary().display().to_string());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tenantry.service");
    std::fs::write(&path, &unit).unwrap();
    let verify = |path: &Path| {
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(path).output()
    };
    let Ok(output) = verify(&path) else {
        println!("skipped: there is no systemd-analyze here");
        return;
    };
    // It has 0 for unknown keys, too: it must have nothing to say of this unit.
    let about = |output: &Output| {
        said(output)
            .lines()
            .filter(|line| line.contains("tenantry"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(output.status.success() && about(&output).is_empty(), "{}", said(&output));
    std::fs::write(&path, unit.replace("NoNewPrivileges=", "NoNewPriviliges=")).unwrap();
    assert!(!about(&verify(&path).unwrap()).is_empty(), "a mistake is noticed");
}

#[test]
fn the_tables_of_figures_are_those_of_the_newest_results() {
    let report = root().join("benches/load/report.py");
    let output =
        Command::new(tool("TENANTRY_TEST_PYTHON")).arg("-B").arg(report).arg("--check").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Pages and what they link to, as it is written.
fn links(page: &str) -> Vec<String> {
    page.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

#[test]
fn every_page_is_in_the_index_and_every_link_leads_somewhere() {
    let docs = root().join("docs");
    let pages = |directory: &Path| -> BTreeSet<PathBuf> {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|ext| ext == "md")).collect()
    };
    let index = read(docs.join("index.md"));
    for page in pages(&docs).iter().filter(|page| !page.ends_with("index.md")) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(index.contains(&format!("({name})")), "{name} is missing from docs/index.md");
    }
    let mut all: Vec<PathBuf> =
        pages(&docs).into_iter().chain(pages(&docs.join("runbooks"))).collect();
    all.push(root().join("README.md"));
    for page in all {
        let text = read(&page);
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !anchor.is_empty() {
                let headings = read(&target);
                let slug = |line: &str| {
                    let words = line.trim_start_matches('#').trim().to_lowercase();
                    words
                        .chars()
                        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                        .collect::<String>()
                        .replace(' ', "-")
                };
                assert!(
                    headings
                        .lines()
                        .filter(|line| line.starts_with('#'))
                        .any(|line| slug(line) == anchor),
                    "{}: {link}",
                    page.display()
                );
            }
        }
    }
}
