//! The programs in `README.md` and in the main README compile without a warning, and do what the
//! text says.
use std::path::{Path, PathBuf};

use crate::harness::{World, compilers_of_c, compilers_of_cpp};

const README: &str = include_str!("../../README.md");
const MAIN_README: &str = include_str!("../../../../README.md");

/// The listings of a language, each with the name of the file, which the line above it mentions
/// last.
fn listings(readme: &str, language: &str) -> Vec<(String, String)> {
    let fence = format!("\n```{language}\n");
    let mut found = Vec::new();
    for (start, _) in readme.match_indices(&fence) {
        let caption = readme[..start].trim_end().lines().next_back().unwrap();
        let name = caption.rsplit('`').nth(1).unwrap_or_else(|| panic!("{caption:?} names no file"));
        let text = &readme[start + fence.len()..];
        found.push((name.to_owned(), text[..text.find("```").unwrap()].to_owned()));
    }
    found
}

/// Writes the listings to a directory of their own and compiles the programs among them.
fn programs(world: &World, readme: &str, language: &str, compiler: &str) -> Vec<PathBuf> {
    let directory = world.programs.path().join(language);
    let _ = std::fs::create_dir(&directory);
    let listings = listings(readme, language);
    for (name, text) in &listings {
        std::fs::write(directory.join(name), text).unwrap();
    }
    let programs = listings.iter().filter(|(_, text)| text.contains("int main("));
    let options: &[&str] = if language == "cpp" { &["-std=c++17"] } else { &[] };
    let compile = |(name, _): &(String, String)| {
        let program = world.compile(compiler, options, directory.join(name));
        let own = directory.join(Path::new(name).file_stem().unwrap());
        std::fs::rename(program, &own).unwrap();
        own
    };
    programs.map(compile).collect()
}

#[test]
fn subscribers_in_c_and_cpp_read_from_publishers_in_both_until_they_die() {
    for (in_c, in_cpp) in compilers_of_c().into_iter().zip(compilers_of_cpp()) {
        let world = World::new();
        let c = programs(&world, README, "c", in_c);
        let cpp = programs(&world, README, "cpp", in_cpp);
        let [[c_publisher, c_subscriber], [cpp_publisher, cpp_subscriber]] = [c, cpp].map(|both| {
            assert!(both[0].ends_with("publisher") && both[1].ends_with("subscriber"), "{both:?}");
            <[PathBuf; 2]>::try_from(both).unwrap()
        });
        for publisher in [&c_publisher, &cpp_publisher] {
            // The topic of the publisher killed before must not be found.
            let world = World::new();
            let publisher = world.start(publisher, "");
            world.wait_until_exists("imu");
            let mut subscribers = [&c_subscriber, &cpp_subscriber].map(|program| world.start(program, ""));
            for subscriber in &mut subscribers {
                subscriber.line_with("rad/s");
            }
            publisher.kill();
            for subscriber in subscribers {
                let said = subscriber.succeeds();
                let last = said.lines().next_back().unwrap();
                assert_eq!(last, "the publisher of topic \"imu\" died; open the topic again when it is back");
            }
        }
    }
}

#[test]
fn the_programs_of_the_main_readme_compile_and_talk_to_each_other() {
    let world = World::new();
    let programs = programs(&world, MAIN_README, "cpp", compilers_of_cpp()[0]);
    let find = |name| programs.iter().find(|program| program.ends_with(name)).expect(name);
    let publisher = world.start(find("publisher"), "");
    world.wait_until_exists("imu");
    let mut subscriber = world.start(find("subscriber"), "");
    subscriber.line();
    publisher.kill();
    assert!(subscriber.succeeds().contains("the publisher of topic \"imu\" died"));
}
