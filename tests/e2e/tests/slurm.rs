//! A grid as a job array on a real two-node Slurm: the results are identical to one process, even
//! if nodes or jobs die.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cifar_e2e::slurm::{Cluster, count, wait_until};
use cifar_e2e::{Answer, Project, binary, tree};

/// Exit status of any error except invalid parameters or usage and Ctrl-C.
const FAILURE: i32 = 1;
const INTERRUPTED: i32 = 130;
const RUN: [&str; 4] = ["experiments", "run", "--engine", "slurm"];
const LOCAL: [&str; 4] = ["experiments", "run", "--engine", "local"];
const RESOURCES: &str = "[slurm]\ncpus_per_task = 1\npoll_seconds = 1\nmemory = '1G'\n";

/// Allows one cluster at a time. Two clusters would claim the machine's processors twice.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn project(grid: &str) -> Project {
    let project = Project::with_partitions();
    project.edit("params.yaml", "widths: [32, 64, 128]", "widths: [4, 8, 8]");
    project.write("experiments.toml", format!("{grid}{RESOURCES}").as_bytes());
    project
}

/// Puts pictures of random blocks into `folder`, one of each of two classes for every number.
fn draw(project: &Project, folder: &str, numbers: std::ops::Range<u8>) {
    for (class, name) in (0..).zip(["cat", "dog"]) {
        for number in numbers.clone() {
            // Blocks of 8×8 pixels in colours that depend on everything.
            let shade = |place: u32, channel: u32| {
                let seed = u32::from(number) * 2 + class;
                ((seed * 16 + place) * 3 + channel).wrapping_mul(2_654_435_761) >> 24
            };
            let colour = |place| image::Rgb([0, 1, 2].map(|channel| shade(place, channel) as u8));
            let picture = image::RgbImage::from_fn(32, 32, |x, y| colour(y / 8 * 4 + x / 8));
            let file = project.path(folder).join(name).join(format!("{number}.png"));
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            picture.save(file).expect("an image");
        }
    }
}

/// A project of images in class folders to which the partition v4 was added.
fn grown_project(grid: &str) -> Project {
    let project = Project::new();
    project.edit("params.yaml", "widths: [32, 64, 128]", "widths: [4, 8, 8]");
    project.write("experiments.toml", format!("{grid}{RESOURCES}").as_bytes());
    draw(&project, "first", 0..90);
    project.run(&["partition", "--source", "first"]).success();
    draw(&project, "more", 90..120);
    project.run(&["partition", "--add", "v4", "--source", "more"]).success();
    project
}

/// Runs the program with access to the cluster.
fn run(project: &Project, cluster: &Cluster, arguments: &[&str]) -> Answer {
    Answer::of(cluster.reaches(&mut project.command(&binary(), arguments)).output().expect("the program starts"))
}

/// The program in the background. It is killed if its test fails.
struct Follower(Child);

impl Follower {
    fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("it was started")
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it was started").is_some()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program in the background with standard error in a file.
fn begin(project: &Project, cluster: &Cluster, log: &str) -> Follower {
    let talk = std::fs::File::create(project.path(log)).expect("a file");
    let mut command = project.command(&binary(), &RUN);
    Follower(cluster.reaches(&mut command).stdout(Stdio::null()).stderr(talk).spawn().expect("the program starts"))
}

fn says(project: &Project, file: &str, words: &str) -> bool {
    std::fs::read_to_string(project.path(file)).is_ok_and(|text| text.contains(words))
}

/// Returns all files of the runs except their logs, which name nodes and paths.
fn results(project: &Project) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = tree(&project.path("experiments"));
    files.retain(|path, _| !path.ends_with("log.txt"));
    assert!(files.len() > 10);
    files
}

/// Runs the same grid from scratch in one process.
fn results_of_one_process(project: &Project) -> BTreeMap<PathBuf, Vec<u8>> {
    std::fs::remove_dir_all(project.path("experiments")).expect("results");
    std::fs::remove_dir_all(project.path(".cifar/checkpoints")).expect("checkpoints");
    // One thread per run, as in the tasks.
    project.run(&[&LOCAL[..], &["-j", "2", "--threads", "2"]].concat()).success();
    results(project)
}

/// Installs fake Slurm programs that keep a job's script and execute it at once for its only task.
#[cfg(unix)]
fn stand_in(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let sbatch = "#!/bin/sh\nhere=$(dirname \"$0\")\nprintf '%s\\n' \"$@\" >\"$here/arguments\"\n\
                  for a; do last=$a; case $a in --chdir=*) dir=${a#--chdir=};; esac; done\n\
                  cp \"$last\" \"$here/script\"\ncd \"$dir\" || exit 1\n\
                  SLURM_ARRAY_TASK_ID=0 sh \"$here/script\" >task-0.txt 2>&1\necho 17\n";
    for (name, text) in [("sbatch", sbatch), ("squeue", "#!/bin/sh\n"), ("scancel", "#!/bin/sh\n")] {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    }
}

#[cfg(unix)]
#[test]
fn project_text_is_never_executed_on_a_node() {
    let slurm = tempfile::tempdir().expect("a temporary folder");
    stand_in(slurm.path());
    let path = format!("{}:{}", slurm.path().display(), std::env::var("PATH").expect("a path"));
    let grid = "[grid]\nrandom_seed = [1]\n";
    let outer = project(grid);
    let script = || std::fs::read_to_string(slurm.path().join("script"));
    let run = |folder: &str, more: &str| {
        outer.write(&format!("{folder}/experiments.toml"), format!("{grid}{RESOURCES}{more}").as_bytes());
        let mut command = outer.command(&binary(), &[&["-C", folder][..], &RUN[..]].concat());
        let output = command.env("PATH", &path).env("CIFAR_ISA", "portable").output();
        Answer::of(output.expect("the program starts"))
    };
    let copy = |folder: &str| {
        for file in ["params.yaml", "labels/overrides.csv", "labels/review.csv"] {
            outer.write(&format!("{folder}/{file}"), &outer.read(file));
        }
        for (file, bytes) in tree(&outer.path("dataset_partitions")) {
            outer.write(&format!("{folder}/dataset_partitions/{}", file.display()), &bytes);
        }
    };
    let mut scripts = Vec::new();
    for folder in ["plain", "a $(touch PWNED)`touch PWNED`;touch PWNED'\"%a\\"] {
        copy(folder);
        run(folder, "options = ['--comment=$(touch PWNED); `touch PWNED`']\n").success();
        assert!(outer.path(&format!("{folder}/experiments/runs/v1-seed1/run.json")).is_file());
        scripts.push(script().expect("a script"));
        std::fs::remove_file(slurm.path().join("script")).expect("a script");
    }
    assert_eq!(scripts[0], scripts[1], "the script is the same for every job");
    let files = tree(&outer.path(""));
    assert!(!files.keys().any(|path| path.to_string_lossy().ends_with("/PWNED") || path.ends_with("PWNED")));

    let mistake = |more: &str, words: &str| {
        run("plain", more).failure(2, &["experiments.toml: [slurm]: options: ", words]);
    };
    mistake("options = [\"--comment=x\\ntouch y\\n#\"]\n", "without control characters");
    for short in ["--wra=touch y", "--arr=0-9", "--export=ALL,LD_PRELOAD=x.so", "--outp=y"] {
        mistake(&format!("options = ['{short}']\n"), "is not allowed; allowed are account, ");
    }
    copy("new\nline");
    run("new\nline", "").failure(FAILURE, &["a path with control characters"]);
    assert!(script().is_err(), "nothing was submitted");
}

#[test]
fn a_job_array_gives_the_same_files_as_one_process() {
    let _alone = alone();
    let Some(cluster) = Cluster::start() else { return };
    let project = grown_project("[grid]\ndataset_version = ['v1', 'v1+v4']\nrandom_seed = [1, 2]\n");
    let answer = run(&project, &cluster, &RUN).success();
    for words in ["tasks submitted: 4", "[4/4] ", "test "] {
        assert!(answer.stderr.contains(words), "{words}: {answer:#?}");
    }
    assert_eq!(cluster.jobs().len(), 1, "expected one array");
    let again = run(&project, &cluster, &RUN).success();
    assert!(again.stderr.contains("4 finished, 0 to do"), "{again:#?}");
    assert_eq!(cluster.jobs().len(), 1, "nothing was submitted again");
    let left: Vec<_> = tree(&project.path(".cifar/slurm")).into_keys().filter(|p| !p.starts_with("locks")).collect();
    assert!(left.is_empty(), "{left:?}");
    let found = results(&project);
    assert!(found == results_of_one_process(&project));

    // One run is invalid; the others are not.
    let bad = "[[include]]\nsplit.train_images = 5000\nrandom_seed = 1\n";
    project.write("experiments.toml", format!("[grid]\nrandom_seed = [1, 3]\n{bad}{RESOURCES}").as_bytes());
    let parts = ["1 of 3 runs failed, first v1-train_images5000-seed1", "split.train_images: 5000", "--retry"];
    let answer = run(&project, &cluster, &RUN).failure(FAILURE, &parts);
    assert!(answer.stderr.contains("1 finished, 2 to do"), "{answer:#?}");
    assert!(project.path("experiments/runs/v1-seed3/run.json").is_file());
    let jobs = cluster.jobs().len();
    run(&project, &cluster, &RUN).failure(FAILURE, &parts);
    assert_eq!(cluster.jobs().len(), jobs, "failed runs are not resubmitted by default");
    run(&project, &cluster, &[&RUN[..], &["--retry"]].concat()).failure(FAILURE, &parts);
}

#[test]
fn runs_survive_a_node_failure_a_requeue_and_a_killed_client() {
    let _alone = alone();
    let Some(mut cluster) = Cluster::start() else { return };
    let project = project("[grid]\nrandom_seed = [1, 2]\n");
    project.edit("params.yaml", "epochs: 2", "epochs: 40");
    let first = begin(&project, &cluster, "first.txt");
    let logs = ["v1-seed1", "v1-seed2"].map(|name| format!("experiments/runs/{name}/log.txt"));
    wait_until("both runs have an epoch behind them", || logs.iter().all(|log| says(&project, log, "\n    1 ")));
    // No run ends before it is disturbed, however fast the machine is. After three seconds the next
    // epoch writes a checkpoint.
    cluster.all("suspend");
    std::thread::sleep(Duration::from_secs(4));
    cluster.all("resume");
    wait_until("both runs have a checkpoint", || {
        count(&project.path(".cifar/checkpoints"), "checkpoint.safetensors") == 2
    });
    cluster.all("suspend");
    project.run(&RUN).failure(FAILURE, &["is running in this folder"]);
    drop(first);

    let mut second = begin(&project, &cluster, "second.txt");
    wait_until("it is followed again", || says(&project, "second.txt", "following tasks of an earlier call: 2"));
    let task_on = |cluster: &Cluster, node: &str| {
        let tasks = cluster.tasks();
        tasks.into_iter().find(|[.., on]| on == node).map(|[job, number, _]| format!("{job}_{number}"))
    };
    let moved = task_on(&cluster, "n2").expect("the runs continue");
    // Slurm would hold tasks that were suspended when their node died.
    cluster.all("resume");
    cluster.kill("n1");
    cluster.ask("scontrol", &["requeue", &moved]);
    let moves = |talk: &str| talk.matches("requeued by Slurm").count();
    wait_until("both are requeued", || moves(&String::from_utf8_lossy(&project.read("second.txt"))) == 2);
    wait_until("both runs end", || {
        cluster.hurry();
        second.has_ended()
    });
    let talk = String::from_utf8(project.read("second.txt")).expect("text");
    assert!(second.wait().success(), "{talk}");
    assert_eq!(cluster.jobs().len(), 1, "no run was submitted twice");
    for log in &logs {
        let log = String::from_utf8(project.read(log)).expect("text");
        assert!(log.contains("start 2 of this task"), "{log}");
        assert!(log.contains("resuming after step"), "{log}");
    }
    let found = results(&project);
    assert!(found == results_of_one_process(&project));
}

#[test]
fn failed_tasks_are_resubmitted_and_cancelled_ones_are_not() {
    let _alone = alone();
    let Some(mut cluster) = Cluster::start() else { return };
    let project = project("[grid]\nrandom_seed = [1, 2]\n");
    project.edit("params.yaml", "epochs: 2", "epochs: 30");
    let mut follower = begin(&project, &cluster, "talk.txt");
    let is_running = |cluster: &Cluster| cluster.tasks().iter().filter(|[.., node]| !node.is_empty()).count() == 2;
    wait_until("both runs go on", || is_running(&cluster));
    cluster.all("suspend");
    for [job, number, node] in cluster.tasks() {
        if node == "n1" {
            cluster.ask("scontrol", &["update", &format!("JobId={job}_{number}"), "Requeue=0"]);
        } else {
            cluster.ask("scancel", &[&format!("{job}_{number}")]);
        }
    }
    cluster.all("resume");
    cluster.kill("n1");
    wait_until("it is submitted again", || says(&project, "talk.txt", "stopped (NODE_FAIL); it is submitted again"));
    cluster.restart("n1");
    wait_until("it ends", || follower.has_ended());
    let talk = String::from_utf8(project.read("talk.txt")).expect("text");
    assert_eq!(follower.wait().code(), Some(FAILURE), "{talk}");
    assert!(talk.contains("error: 1 of 2 runs were cancelled in Slurm, first v1-seed"), "{talk}");
    assert_eq!(cluster.jobs().len(), 2);
    assert_eq!(count(&project.path("experiments/runs"), "run.json"), 1);
    // The next command submits what is missing.
    run(&project, &cluster, &RUN).success();
    assert_eq!(count(&project.path("experiments/runs"), "run.json"), 2);
}

#[test]
fn impossible_requests_give_one_error_line_and_leave_no_jobs() {
    let _alone = alone();
    let project = project("[grid]\nrandom_seed = [1]\n");
    let output = project.command(&binary(), &RUN).env("PATH", "/nowhere").output().expect("the program starts");
    Answer::of(output).failure(FAILURE, &["sbatch is not on the path", "--engine local"]);
    let Some(cluster) = Cluster::start() else { return };
    let resources = |more: &str| {
        project.write("experiments.toml", format!("[grid]\nrandom_seed = [1]\n{RESOURCES}{more}").as_bytes());
    };
    let is_idle =
        |cluster: &Cluster| cluster.tasks().is_empty() && count(&project.path(".cifar/slurm"), "job.json") == 0;

    resources("partition = 'nowhere'\n");
    run(&project, &cluster, &RUN).failure(FAILURE, &["sbatch failed: invalid partition specified: nowhere"]);
    resources("options = ['--mem-per-cpu=900G', '--exclusive']\n");
    run(&project, &cluster, &RUN).failure(FAILURE, &["sbatch failed: "]);
    resources("partition = 'closed'\nstart_timeout = '0:03'\n");
    let parts = ["no run started within 3 s, all were waiting (PartitionDown), so it was cancelled", "start_timeout"];
    run(&project, &cluster, &RUN).failure(FAILURE, &parts);
    assert!(is_idle(&cluster));
    // More processors than a node has: some Slurm releases refuse the job, others leave it pending.
    project.edit("experiments.toml", "cpus_per_task = 1", "cpus_per_task = 3");
    project.edit("experiments.toml", "partition = 'closed'\n", "");
    let answer = run(&project, &cluster, &RUN).failure(FAILURE, &[]);
    assert!(
        ["so it was cancelled; lower the request", "sbatch failed: "].iter().any(|words| answer.stderr.contains(words)),
        "{answer:#?}"
    );
    assert!(is_idle(&cluster));
    // A limit on file size mimics a full disk.
    let script = format!("trap '' XFSZ; ulimit -f 64; exec '{}' {}", binary().display(), RUN.join(" "));
    let mut full = project.command("sh".as_ref(), &["-c", &script]);
    let output = cluster.reaches(&mut full).output().expect("the program starts");
    Answer::of(output).failure(FAILURE, &["cannot write"]);
    assert!(is_idle(&cluster));

    // Ctrl-C leaves the array running, and other commands refuse to submit while it runs.
    resources("partition = 'closed'\n");
    let mut follower = begin(&project, &cluster, "talk.txt");
    wait_until("it is submitted", || says(&project, "talk.txt", "tasks submitted: 1"));
    let process = follower.0.id().to_string();
    project.call("kill".as_ref(), &["-INT", &process]).success();
    assert_eq!(follower.wait().code(), Some(INTERRUPTED));
    let job = cluster.tasks()[0][0].clone();
    let talk = String::from_utf8(project.read("talk.txt")).expect("text");
    assert!(
        talk.contains(&format!("job {job} continues in Slurm")) && talk.contains(&format!("scancel {job} stops it")),
        "{talk}"
    );
    let parts = [&format!("job {job} of Slurm is running v1-seed1"), "--engine slurm", "scancel"];
    run(&project, &cluster, &LOCAL).failure(FAILURE, &parts);
    project.edit("params.yaml", "momentum: 0.9 ", "momentum: 0.8 ");
    let parts = ["is running another run called v1-seed1", "train.momentum was 0.9 and is 0.8 now", "scancel"];
    run(&project, &cluster, &RUN).failure(FAILURE, &parts);
    cluster.ask("scancel", &[&job]);
    resources("");
    run(&project, &cluster, &RUN).success();
}
